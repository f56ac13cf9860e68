#include "runtime/checkpoint/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *shoal__path_join(const char *folder, const char *name)
{
    size_t n_folder = strlen(folder);
    bool slash = n_folder > 0 && folder[n_folder - 1] == '/';
    size_t n_path = n_folder + 1 + strlen(name) + 1;
    char *path = malloc(n_path);
    if (path != NULL)
        snprintf(path, n_path, "%s%s%s", folder, slash ? "" : "/", name);
    return path;
}

bool shoal__file_exists(const char *folder, const char *name)
{
    char *path = shoal__path_join(folder, name);
    if (path == NULL)
        return true; /* opening it will say that memory is out */
    struct stat entry;
    bool absent = lstat(path, &entry) != 0 && (errno == ENOENT || errno == ENOTDIR);
    free(path);
    return !absent;
}

int64_t shoal__modified_ns(const struct stat *entry)
{
    return (int64_t)entry->st_mtim.tv_sec * 1000000000 + (int64_t)entry->st_mtim.tv_nsec;
}

static shoal_status open_failed(const char *path, int error, shoal_log *log)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return shoal_fail(log, SHOAL_NO_INPUT,
                          "%s: no such file, or a link whose target is gone; wanted a file of the "
                          "checkpoint: is the download complete?",
                          path);
    case EMFILE:
        return shoal_fail(log, SHOAL_IO,
                          "%s: cannot open: too many open files in this process; raise the limit "
                          "(ulimit -n)",
                          path);
    default:
        return shoal_fail(log, SHOAL_IO, "%s: cannot open: %s", path, strerror(error));
    }
}

shoal_status shoal__file_open(shoal__file *file, const char *folder, const char *name,
                              shoal_log *log)
{
    char *path = shoal__path_join(folder, name);
    if (path == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to open it", name);

    /* O_NONBLOCK: a FIFO of that name must be refused below, not waited for. */
    int fd = -1;
    do {
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    } while (fd < 0 && errno == EINTR);

    struct stat entry;
    shoal_status status = SHOAL_OK;
    if (fd < 0)
        status = open_failed(path, errno, log);
    else if (fstat(fd, &entry) != 0)
        status = shoal_fail(log, SHOAL_IO, "%s: cannot stat: %s", path, strerror(errno));
    else if (!S_ISREG(entry.st_mode))
        status = shoal_fail(log, SHOAL_BAD_DATA,
                            "%s: is a folder or a device, wanted a regular file", path);
    if (status != SHOAL_OK) {
        if (fd >= 0)
            close(fd);
        free(path);
        return status;
    }
    *file = (shoal__file){.fd = fd,
                          .n_bytes = (uint64_t)entry.st_size,
                          .modified_ns = shoal__modified_ns(&entry),
                          .path = path,
                          .name = path + strlen(path) - strlen(name)};
    return SHOAL_OK;
}

void shoal__file_close(shoal__file *file)
{
    if (file->path == NULL)
        return;
    close(file->fd);
    free(file->path);
    *file = (shoal__file){.fd = -1};
}

uint64_t shoal__file_readable(const shoal__file *file)
{
    return file->is_staged ? file->n_stored : file->n_bytes;
}

shoal_status shoal__file_read(const shoal__file *file, uint64_t offset, size_t n_bytes, void *dst,
                              shoal_log *log)
{
    if (file->is_staged && (offset > file->n_stored || n_bytes > file->n_stored - offset))
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "%s: the first %" PRIu64
                          " bytes of it were staged, its header goes on to "
                          "byte %" PRIu64 "; run shoal stage again",
                          file->path, file->n_stored, offset + n_bytes);
    const uint64_t at = file->stored_at + offset;
    unsigned char *to = dst;
    size_t n_done = 0;
    while (n_done < n_bytes) {
        ssize_t n = pread(file->fd, to + n_done, n_bytes - n_done, (off_t)(at + n_done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return shoal_fail(log, SHOAL_IO,
                              "%s: reading %zu bytes at offset %" PRIu64 " failed: %s", file->path,
                              n_bytes, offset, strerror(errno));
        if (n == 0)
            return shoal_fail(log, SHOAL_BAD_DATA,
                              "%s: the file shrank: it ends at byte %" PRIu64 ", had %" PRIu64
                              " bytes when it was opened, wanted bytes %" PRIu64 " to %" PRIu64
                              "; is something writing to the checkpoint?",
                              file->path, offset + n_done, file->n_bytes, offset, offset + n_bytes);
        n_done += (size_t)n;
    }
    return SHOAL_OK;
}
