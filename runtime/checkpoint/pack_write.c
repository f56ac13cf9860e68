#include "runtime/checkpoint/pack_write.h"

#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/pack_append.h"
#include "runtime/checkpoint/pack_index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_NAME "lock" /* held while a file is made; a file itself while it grows */

shoal_status shoal__pack_failed(const shoal__pack_writer *writer, const char *path,
                                const char *what)
{
    return shoal_fail(writer->log, SHOAL_IO, "%s: cannot be %s: %s", path, what, strerror(errno));
}

void shoal__pack_poll(const shoal__pack_writer *writer)
{
    if (writer->poll != NULL)
        writer->poll(writer->poll_arg);
}

shoal_status shoal__pack_pwrite(const shoal__pack_writer *writer, int fd, const char *path,
                                uint64_t offset, const void *data, size_t n_bytes)
{
    size_t n_done = 0;
    while (n_done < n_bytes) {
        ssize_t n =
            pwrite(fd, (const char *)data + n_done, n_bytes - n_done, (off_t)(offset + n_done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return shoal__pack_failed(writer, path, "written");
        n_done += (size_t)n;
    }
    return SHOAL_OK;
}

/* Waits for the lock of fd as long as its holder lives, with signs of life. */
static shoal_status lock(int fd, const char *path, const shoal__pack_writer *writer)
{
    const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return shoal__pack_failed(writer, path, "locked");
        shoal__pack_poll(writer);
        nanosleep(&pause, NULL);
    }
    return SHOAL_OK;
}

shoal_status shoal__pack_sync_folder(const shoal__pack_writer *writer)
{
    const int fd = open(writer->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        const shoal_status status = shoal__pack_failed(writer, writer->folder, "synced");
        if (fd >= 0)
            close(fd);
        return status;
    }
    close(fd);
    return SHOAL_OK;
}

/* The temporary name is the same each time: what a kill leaves is overwritten by the next, and the
 * lock keeps others out. */
static shoal_status write_renamed(const shoal__pack_writer *writer, const char *path,
                                  const char *path_new, const void *data, size_t n_bytes)
{
    const int fd = open(path_new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return shoal__pack_failed(writer, path_new, "made");
    shoal_status status = shoal__pack_pwrite(writer, fd, path_new, 0, data, n_bytes);
    if (status == SHOAL_OK && fsync(fd) != 0)
        status = shoal__pack_failed(writer, path_new, "synced");
    if (close(fd) != 0 && status == SHOAL_OK)
        status = shoal__pack_failed(writer, path_new, "closed");
    if (status == SHOAL_OK && rename(path_new, path) != 0)
        status = shoal__pack_failed(writer, path_new, "renamed");
    if (status != SHOAL_OK) {
        unlink(path_new);
        return status;
    }
    return shoal__pack_sync_folder(writer);
}

/* Open and lock the folder's lock file. */
static shoal_status lock_folder(int *fd, const shoal__pack_writer *writer)
{
    char *path = shoal__path_join(writer->folder, LOCK_NAME);
    if (path == NULL)
        return shoal_fail(writer->log, SHOAL_NO_MEMORY, "%s: no memory to lock it", writer->folder);
    const int f = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    shoal_status status =
        f < 0 ? shoal__pack_failed(writer, path, "opened") : lock(f, path, writer);
    free(path);
    if (status != SHOAL_OK) {
        if (f >= 0)
            close(f);
        return status;
    }
    *fd = f;
    return SHOAL_OK;
}

static shoal_status write_new(const shoal__pack_writer *writer, const char *path, const void *data,
                              size_t n_bytes)
{
    char *path_new = malloc(strlen(path) + sizeof ".new");
    if (path_new == NULL)
        return shoal_fail(writer->log, SHOAL_NO_MEMORY, "%s: no memory to make it", path);
    sprintf(path_new, "%s.new", path);
    const shoal_status status = write_renamed(writer, path, path_new, data, n_bytes);
    free(path_new);
    return status;
}

shoal_status shoal__pack_write_whole(const shoal__pack_writer *writer, const char *name,
                                     const void *data, size_t n_bytes)
{
    char *path = shoal__path_join(writer->folder, name);
    if (path == NULL)
        return shoal_fail(writer->log, SHOAL_NO_MEMORY, "%s: no memory to make it", name);
    int lock_fd;
    shoal_status status = lock_folder(&lock_fd, writer);
    if (status == SHOAL_OK) {
        status = write_new(writer, path, data, n_bytes);
        close(lock_fd);
    }
    free(path);
    return status;
}

/* True if the file at path can be opened and has a good index: nobody needs to make it. */
static bool is_usable(const shoal__pack_writer *writer, const char *path,
                      const shoal__pack_shape *shape, int32_t n_part)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    shoal_log quiet;
    shoal_log_init(&quiet, NULL, writer->log->rank, "");
    shoal__pack_index index = {0};
    const bool usable = shoal__pack_index_read(&index, fd, path, shape, &quiet) == SHOAL_OK &&
                        index.header.n_part >= (uint32_t)n_part;
    shoal__pack_index_close(&index);
    close(fd);
    return usable;
}

static shoal_status make_file(const shoal__pack_writer *writer, const char *path,
                              const shoal__pack_shape *shape, int32_t n_part)
{
    int lock_fd;
    SHOAL_TRY(lock_folder(&lock_fd, writer));
    shoal_status status = SHOAL_OK;
    if (!is_usable(writer, path, shape, n_part)) { /* another may have made it meanwhile */
        shoal__pack_index index = {0};
        status = shoal__pack_index_new(&index, shape, n_part, path, writer->log);
        unsigned char *empty = status == SHOAL_OK ? calloc(1, index.header.data_offset) : NULL;
        if (status == SHOAL_OK && empty == NULL)
            status = shoal_fail(writer->log, SHOAL_NO_MEMORY, "%s: no memory to make it", path);
        if (status == SHOAL_OK) {
            memcpy(empty, &index.header, sizeof index.header);
            status = write_new(writer, path, empty, index.header.data_offset);
        }
        free(empty);
        shoal__pack_index_close(&index);
    }
    close(lock_fd);
    return status;
}

/* Open the file that has the name now, locked. */
static shoal_status open_locked(int *fd, const shoal__pack_writer *writer, const char *path)
{
    for (;;) {
        const int f = open(path, O_RDWR | O_CLOEXEC);
        if (f < 0)
            return shoal__pack_failed(writer, path, "opened for writing");
        shoal_status status = lock(f, path, writer);
        struct stat mine, named;
        if (status == SHOAL_OK && fstat(f, &mine) != 0)
            status = shoal__pack_failed(writer, path, "examined");
        if (status == SHOAL_OK && stat(path, &named) == 0 && named.st_ino == mine.st_ino &&
            named.st_dev == mine.st_dev) {
            *fd = f;
            return SHOAL_OK;
        }
        close(f); /* it was replaced while the lock was waited for */
        SHOAL_TRY(status);
    }
}

shoal_status shoal__pack_add(uint64_t *n_bytes_added, const shoal__pack_writer *writer,
                             const char *name, const shoal__pack_shape *shape,
                             const shoal_pack_unit *unit, int32_t n_unit)
{
    *n_bytes_added = 0;
    if (n_unit == 0)
        return SHOAL_OK;
    const int32_t n_part = unit[0].n_part;
    char *path = shoal__path_join(writer->folder, name);
    if (path == NULL)
        return shoal_fail(writer->log, SHOAL_NO_MEMORY, "%s: no memory to write it", name);
    int fd = -1;
    shoal_status status = SHOAL_OK;
    if (!is_usable(writer, path, shape, n_part))
        status = make_file(writer, path, shape, n_part);
    if (status == SHOAL_OK)
        status = open_locked(&fd, writer, path);
    if (status == SHOAL_OK)
        status = shoal__pack_append(n_bytes_added, writer, fd, path, shape, unit, n_unit);
    if (fd >= 0)
        close(fd); /* and the lock goes */
    free(path);
    return status;
}
