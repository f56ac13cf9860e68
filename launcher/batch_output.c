#include "launcher/batch_io.h"

#include "runtime/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SYNC_INTERVAL_US = 1000000, PIPE_WAIT_MS = 20 };

static shoal_status fail_io(const shoal_batch_output *output, const char *what)
{
    int error = errno;
    bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
    return shoal_fail(output->log, SHOAL_IO, "%s: %s failed: %s; finished lines are whole%s",
                      output->path, what, strerror(error),
                      full ? "; make room, then go on with --resume" : "");
}

/* The id of one whole line of an earlier run. */
static shoal_status take_answer(shoal_batch_output *output, shoal_id_set *answered,
                                const char *line, size_t n_bytes)
{
    char name[64];
    snprintf(name, sizeof name, "answer %lld", (long long)output->n_skipped + 1);
    shoal_json *doc;
    shoal_status status = shoal_json_parse(&doc, line, n_bytes, name, output->log);
    if (status != SHOAL_OK)
        return shoal_fail(output->log, status,
                          "%s: line %lld is not an answer of a batch; give another --output",
                          output->path, (long long)output->n_skipped + 1);
    const shoal_json *id = shoal_json_get(doc, "id");
    if (!shoal_json_is_string(id) && !shoal_json_is_integer(id)) {
        shoal_json_close(doc);
        return shoal_fail(output->log, SHOAL_BAD_DATA,
                          "%s: line %lld has no id and is not an answer of a batch; give another "
                          "--output",
                          output->path, (long long)output->n_skipped + 1);
    }
    char *key = shoal_json_dump(id);
    output->n_again += shoal_id_set_get(answered, key) != 0;
    status = shoal_id_set_add(answered, key, SHOAL_ID_ANSWERED, output->log);
    free(key);
    output->n_skipped++;
    output->n_error += shoal_json_get(doc, "error") != NULL;
    shoal_json_close(doc);
    return status;
}

/* Where a power cut left zeros for what was not on the disk yet, nothing behind them is kept. The
 * first line must show that the file is ours before anything of it is cut. */
static bool is_torn(const shoal_batch_output *output, const char *line, size_t n_bytes)
{
    static const char begin[] = "{\"id\":";
    if (line[n_bytes - 1] != '\n')
        return true;
    size_t n_text = strnlen(line, n_bytes);
    if (n_text == n_bytes || output->n_skipped > 0)
        return n_text < n_bytes;
    size_t n_begin = n_text < sizeof begin - 1 ? n_text : sizeof begin - 1;
    return n_begin > 0 && memcmp(line, begin, n_begin) == 0;
}

/* Read the answers of earlier runs and cut a torn end. */
static shoal_status read_answers(shoal_batch_output *output, shoal_id_set *answered)
{
    int fd = dup(output->fd);
    FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (file == NULL) {
        if (fd >= 0)
            close(fd);
        return fail_io(output, "reading");
    }
    char *line = NULL;
    size_t n_max = 0;
    shoal_status status = SHOAL_OK;
    ssize_t n;
    errno = 0;
    while (status == SHOAL_OK && (n = getline(&line, &n_max, file)) > 0 &&
           !is_torn(output, line, (size_t)n)) {
        status = take_answer(output, answered, line, (size_t)n - 1);
        output->n_bytes += n;
        errno = 0;
    }
    if (status == SHOAL_OK && ferror(file))
        status = fail_io(output, "reading");
    free(line);
    fclose(file);
    SHOAL_TRY(status);
    struct stat info;
    if (fstat(output->fd, &info) != 0)
        return fail_io(output, "reading its size");
    if (info.st_size == output->n_bytes)
        return SHOAL_OK;
    shoal_log_warn(output->log, "%s: cutting a torn last line of %lld bytes", output->path,
                   (long long)info.st_size - (long long)output->n_bytes);
    return ftruncate(output->fd, output->n_bytes) == 0 ? SHOAL_OK
                                                       : fail_io(output, "cutting a torn line");
}

static shoal_status claim(shoal_batch_output *output, bool resume)
{
    struct stat info;
    if (fstat(output->fd, &info) != 0)
        return fail_io(output, "reading its size");
    output->regular = S_ISREG(info.st_mode);
    if (!output->regular)
        return SHOAL_OK;
    /* File systems without locks give other errors, and the lock is only a courtesy. */
    if (flock(output->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return shoal_fail(output->log, SHOAL_UNAVAILABLE, "%s: another batch is writing it",
                          output->path);
    if (!resume && info.st_size > 0)
        return shoal_fail(output->log, SHOAL_USAGE,
                          "%s exists and has %lld bytes; give --resume to go on with it, or "
                          "another --output",
                          output->path, (long long)info.st_size);
    return SHOAL_OK;
}

/* A file whose entry in the folder is not on the disk is lost with the power, synced or not. */
static shoal_status sync_folder(const shoal_batch_output *output)
{
    const char *slash = strrchr(output->path, '/');
    char *folder = slash == NULL           ? strdup(".")
                   : slash == output->path ? strdup("/")
                                           : strndup(output->path, (size_t)(slash - output->path));
    int fd = folder != NULL ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    free(folder);
    if (fd < 0)
        return SHOAL_OK; /* a folder that may be written but not read */
    bool failed = fsync(fd) != 0 && errno != EINVAL && errno != EROFS;
    int error = errno;
    close(fd);
    errno = error;
    return failed ? fail_io(output, "syncing its folder") : SHOAL_OK;
}

static int open_file(const char *path, bool *created)
{
    enum { HOW = O_APPEND | O_CLOEXEC | O_NONBLOCK };
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | HOW, 0666);
    *created = fd >= 0;
    if (fd < 0 && errno == EEXIST)
        fd = open(path, O_RDWR | O_CREAT | HOW, 0666);
    if (fd < 0 && errno != ENOENT && errno != EISDIR) { /* a pipe may be for writing only */
        int error = errno;
        fd = open(path, O_WRONLY | HOW);
        errno = fd < 0 && errno == ENOENT ? error : errno;
    }
    return fd;
}

shoal_status shoal_batch_output_open(shoal_batch_output *output, shoal_id_set *answered,
                                     const char *path, bool resume, shoal_log *log)
{
    bool created;
    *output = (shoal_batch_output){.path = path, .log = log, .fd = open_file(path, &created)};
    if (output->fd < 0)
        return shoal_fail(log, SHOAL_IO, "%s: opening it for appending failed: %s", path,
                          strerror(errno));
    shoal_status status = claim(output, resume);
    if (status == SHOAL_OK && created)
        status = sync_folder(output);
    if (status == SHOAL_OK && output->regular && resume)
        status = read_answers(output, answered);
    if (status != SHOAL_OK) {
        close(output->fd);
        output->fd = -1;
    }
    return status;
}

static shoal_status sync_output(shoal_batch_output *output)
{
    output->unsynced_us = 0;
    if (output->regular && fsync(output->fd) != 0 && errno != EINVAL && errno != EROFS)
        return fail_io(output, "syncing");
    return SHOAL_OK;
}

shoal_status shoal_batch_output_sync_due(shoal_batch_output *output)
{
    if (output->unsynced_us == 0 || shoal_clock_us() - output->unsynced_us < SYNC_INTERVAL_US)
        return SHOAL_OK;
    return sync_output(output);
}

/* The reader of a pipe may take its time. */
static shoal_status wait_for_pipe(const shoal_batch_output *output)
{
    struct pollfd writable = {.fd = output->fd, .events = POLLOUT};
    (void)poll(&writable, 1, PIPE_WAIT_MS);
    return shoal_pulse_beat(&output->pulse);
}

/* One write takes all of an ordinary file's line unless the disk is full; pipes may take parts. */
static shoal_status write_line(shoal_batch_output *output, const char *line, size_t n_bytes)
{
    size_t done = 0;
    while (done < n_bytes) {
        ssize_t n = write(output->fd, line + done, n_bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            SHOAL_TRY(wait_for_pipe(output));
            continue;
        }
        if (n <= 0) {
            int error = errno;
            if (done > 0 && output->regular && ftruncate(output->fd, output->n_bytes) != 0)
                shoal_log_warn(output->log, "%s: a torn last line could not be cut off",
                               output->path);
            errno = error;
            return fail_io(output, "writing");
        }
        done += (size_t)n;
    }
    output->n_bytes += (int64_t)n_bytes;
    if (output->unsynced_us == 0)
        output->unsynced_us = shoal_clock_us();
    return SHOAL_OK;
}

shoal_status shoal_batch_output_put(shoal_batch_output *output, shoal_json *answer)
{
    char *line = shoal_json_dump(answer);
    shoal_json_close(answer);
    size_t n_bytes = strlen(line);
    line[n_bytes] = '\n'; /* in the place of the ending zero */
    shoal_status status = write_line(output, line, n_bytes + 1);
    free(line);
    return status;
}

shoal_status shoal_batch_output_close(shoal_batch_output *output)
{
    if (output->path == NULL || output->fd < 0)
        return SHOAL_OK;
    shoal_status status = sync_output(output);
    close(output->fd);
    output->fd = -1;
    return status;
}
