#include "runtime/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Opens for reading; a FIFO without a writer must not block. */
static shoal_status open_regular(int *fd, size_t *n_bytes, const char *path, shoal_log *log)
{
    int f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f < 0) {
        shoal_status status = errno == ENOMEM || errno == EMFILE || errno == ENFILE || errno == EIO
                                  ? SHOAL_IO
                                  : SHOAL_NO_INPUT;
        return shoal_fail(log, status, "%s: cannot be opened: %s", path, strerror(errno));
    }
    struct stat info;
    if (fstat(f, &info) != 0) {
        int error = errno;
        close(f);
        return shoal_fail(log, SHOAL_IO, "%s: cannot be examined: %s", path, strerror(error));
    }
    if (!S_ISREG(info.st_mode)) {
        close(f);
        return shoal_fail(log, SHOAL_NO_INPUT, "%s: is %s, a regular file is needed", path,
                          S_ISDIR(info.st_mode) ? "a directory" : "a special file");
    }
    *fd = f;
    *n_bytes = (size_t)info.st_size;
    return SHOAL_OK;
}

#define PIECE_BYTES ((size_t)16 << 20)

/* Reads up to *n_bytes; sets it to what was read, which is fewer only at the end of the file. */
static shoal_status read_all(char *text, size_t *n_bytes, int fd, const shoal_pulse *pulse,
                             int *error)
{
    size_t n_read = 0;
    *error = 0;
    while (n_read < *n_bytes) {
        size_t n_left = *n_bytes - n_read;
        ssize_t n = read(fd, text + n_read, n_left < PIECE_BYTES ? n_left : PIECE_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            *error = errno;
            return SHOAL_IO;
        }
        if (n == 0)
            break;
        n_read += (size_t)n;
        SHOAL_TRY(shoal_pulse_beat(pulse));
    }
    *n_bytes = n_read;
    return SHOAL_OK;
}

shoal_status shoal_file_read_long(char **text, size_t *n_bytes, const char *path, size_t max_bytes,
                                  const shoal_pulse *pulse, shoal_log *log)
{
    int fd;
    size_t size_bytes;
    SHOAL_TRY(open_regular(&fd, &size_bytes, path, log));
    if (size_bytes > max_bytes) {
        close(fd);
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s: has %zu bytes, at most %zu are expected in such a file", path,
                          size_bytes, max_bytes);
    }
    char *t = malloc(size_bytes + 1);
    if (t == NULL) {
        close(fd);
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory for its %zu bytes", path,
                          size_bytes);
    }
    int error;
    shoal_status status = read_all(t, &size_bytes, fd, pulse, &error);
    close(fd);
    if (status != SHOAL_OK) {
        free(t);
        return error == 0
                   ? status
                   : shoal_fail(log, SHOAL_IO, "%s: cannot be read: %s", path, strerror(error));
    }
    t[size_bytes] = '\0';
    *text = t;
    *n_bytes = size_bytes;
    return SHOAL_OK;
}

shoal_status shoal_file_read(char **text, size_t *n_bytes, const char *path, size_t max_bytes,
                             shoal_log *log)
{
    return shoal_file_read_long(text, n_bytes, path, max_bytes, NULL, log);
}
