#include "launcher/batch_io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES ((size_t)64 << 10)

shoal_status shoal_batch_input_open(shoal_batch_input *input, const char *path, shoal_log *log)
{
    *input = (shoal_batch_input){.path = path, .log = log, .fd = -1};
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a FIFO may have no writer yet */
    if (fd < 0)
        return shoal_fail(log, SHOAL_NO_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    struct stat info;
    if (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
        close(fd);
        return shoal_fail(log, SHOAL_NO_INPUT, "%s: is a folder, wanted a file of JSON lines",
                          path);
    }
    input->fd = fd;
    return SHOAL_OK;
}

void shoal_batch_input_close(shoal_batch_input *input)
{
    if (input->path != NULL && input->fd >= 0)
        close(input->fd);
    free(input->data);
    *input = (shoal_batch_input){.fd = -1};
}

/* The next line of what has been read; at the end also one without a newline. */
static bool take_line(shoal_batch_input *input, const char **line, size_t *n_bytes)
{
    size_t n_left = input->n_data - input->n_taken;
    const char *first = n_left > 0 ? input->data + input->n_taken : NULL;
    const char *end = NULL;
    if (n_left > input->n_searched)
        end = memchr(first + input->n_searched, '\n', n_left - input->n_searched);
    input->n_searched = n_left;
    if (end == NULL && (!input->at_end || n_left == 0))
        return false;
    *line = first;
    *n_bytes = end != NULL ? (size_t)(end - first) : n_left;
    input->n_taken += *n_bytes + (end != NULL);
    input->n_searched = 0;
    return true;
}

/* Room for another piece behind what is not taken yet. */
static shoal_status make_room(shoal_batch_input *input)
{
    size_t n_left = input->n_data - input->n_taken;
    if (input->n_taken > 0)
        memmove(input->data, input->data + input->n_taken, n_left);
    input->n_data = n_left;
    input->n_taken = 0;
    if (input->n_max - n_left >= PIECE_BYTES)
        return SHOAL_OK;
    size_t n_max = 2 * (n_left + PIECE_BYTES);
    char *data = realloc(input->data, n_max);
    if (data == NULL)
        return shoal_fail(input->log, SHOAL_NO_MEMORY, "%s: no memory for a line of %zu bytes",
                          input->path, n_max);
    input->data = data;
    input->n_max = n_max;
    return SHOAL_OK;
}

/* Read what is there. Before poll says so a FIFO whose writer has not come yet looks ended. */
static shoal_status read_piece(shoal_batch_input *input, bool *came, int32_t wait_ms)
{
    *came = false;
    struct pollfd readable = {.fd = input->fd, .events = POLLIN};
    if (poll(&readable, 1, wait_ms) <= 0)
        return SHOAL_OK;
    SHOAL_TRY(make_room(input));
    ssize_t n = read(input->fd, input->data + input->n_data, PIECE_BYTES);
    if (n < 0) {
        if (errno == EINTR || errno == EAGAIN)
            return SHOAL_OK;
        return shoal_fail(input->log, SHOAL_IO, "%s: reading failed: %s", input->path,
                          strerror(errno));
    }
    input->n_data += (size_t)n;
    input->at_end = n == 0;
    *came = true;
    return SHOAL_OK;
}

shoal_status shoal_batch_input_next(shoal_batch_input *input, shoal_line_state *state,
                                    const char **line, size_t *n_bytes, int32_t wait_ms)
{
    for (;;) {
        if (take_line(input, line, n_bytes)) {
            *state = SHOAL_LINE_READY;
            return SHOAL_OK;
        }
        if (input->at_end) {
            *state = SHOAL_LINE_END;
            return SHOAL_OK;
        }
        bool came;
        SHOAL_TRY(read_piece(input, &came, wait_ms));
        if (!came) {
            *state = SHOAL_LINE_NOT_YET;
            return SHOAL_OK;
        }
    }
}
