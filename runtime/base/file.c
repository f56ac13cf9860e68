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

/* Reads up to n_bytes; fewer only at the end of the file. -1: errno is set. */
static ssize_t read_all(int fd, char *text, size_t n_bytes)
{
    size_t n_read = 0;
    while (n_read < n_bytes) {
        ssize_t n = read(fd, text + n_read, n_bytes - n_read);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        n_read += (size_t)n;
    }
    return (ssize_t)n_read;
}

shoal_status shoal_file_read(char **text, size_t *n_bytes, const char *path, size_t max_bytes,
                             shoal_log *log)
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
    ssize_t n_read = read_all(fd, t, size_bytes);
    int error = errno;
    close(fd);
    if (n_read < 0) {
        free(t);
        return shoal_fail(log, SHOAL_IO, "%s: cannot be read: %s", path, strerror(error));
    }
    t[n_read] = '\0';
    *text = t;
    *n_bytes = (size_t)n_read;
    return SHOAL_OK;
}
