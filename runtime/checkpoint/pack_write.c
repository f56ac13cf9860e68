#include "runtime/checkpoint/pack_write.h"

#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/pack_index.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOCK_NAME "lock" /* held while a file is made; a file itself while it grows */

enum {
    PIECE_BYTES = 8 << 20,  /* between two calls of poll */
    COMMIT_BYTES = 64 << 20 /* written between two syncs: what a kill can cost */
};

static void poll(const shoal__pack_writer *writer)
{
    if (writer->poll != NULL)
        writer->poll(writer->poll_arg);
}

static shoal_status failed(const char *what, const char *path, shoal_log *log)
{
    return shoal_fail(log, SHOAL_IO, "%s: cannot be %s: %s", path, what, strerror(errno));
}

static shoal_status write_all(int fd, const void *data, size_t n_bytes, uint64_t offset,
                              const char *path, const shoal__pack_writer *writer)
{
    size_t n_done = 0;
    while (n_done < n_bytes) {
        const size_t left = n_bytes - n_done;
        ssize_t n = pwrite(fd, (const char *)data + n_done, left < PIECE_BYTES ? left : PIECE_BYTES,
                           (off_t)(offset + n_done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed("written", path, writer->log);
        n_done += (size_t)n;
        poll(writer);
    }
    return SHOAL_OK;
}

/* Waits for the lock of fd as long as its holder lives, with signs of life. */
static shoal_status lock(int fd, const char *path, const shoal__pack_writer *writer)
{
    const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return failed("locked", path, writer->log);
        poll(writer);
        nanosleep(&pause, NULL);
    }
    return SHOAL_OK;
}

static shoal_status sync_folder(const shoal__pack_writer *writer)
{
    const int fd = open(writer->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        const shoal_status status = failed("synced", writer->folder, writer->log);
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
        return failed("made", path_new, writer->log);
    shoal_status status = write_all(fd, data, n_bytes, 0, path_new, writer);
    if (status == SHOAL_OK && fsync(fd) != 0)
        status = failed("synced", path_new, writer->log);
    if (close(fd) != 0 && status == SHOAL_OK)
        status = failed("closed", path_new, writer->log);
    if (status == SHOAL_OK && rename(path_new, path) != 0)
        status = failed("renamed", path_new, writer->log);
    if (status != SHOAL_OK) {
        unlink(path_new);
        return status;
    }
    return sync_folder(writer);
}

/* Open and lock the folder's lock file. */
static shoal_status lock_folder(int *fd, const shoal__pack_writer *writer)
{
    char *path = shoal__path_join(writer->folder, LOCK_NAME);
    if (path == NULL)
        return shoal_fail(writer->log, SHOAL_NO_MEMORY, "%s: no memory to lock it", writer->folder);
    const int f = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    shoal_status status = f < 0 ? failed("opened", path, writer->log) : lock(f, path, writer);
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
            return failed("opened for writing", path, writer->log);
        shoal_status status = lock(f, path, writer);
        struct stat mine, named;
        if (status == SHOAL_OK && fstat(f, &mine) != 0)
            status = failed("examined", path, writer->log);
        if (status == SHOAL_OK && stat(path, &named) == 0 && named.st_ino == mine.st_ino &&
            named.st_dev == mine.st_dev) {
            *fd = f;
            return SHOAL_OK;
        }
        close(f); /* it was replaced while the lock was waited for */
        SHOAL_TRY(status);
    }
}

/* The state of appending to one file. */
typedef struct appender {
    const shoal__pack_writer *writer;
    const char *path;
    int fd;
    shoal__pack_index index;
    uint64_t end;       /* where the next unit begins */
    uint64_t committed; /* end of the last unit whose slot is written */
} appender;

/* Write a unit's weights behind the end, and its slot in memory. */
static shoal_status append_unit(appender *a, const shoal_pack_unit *unit)
{
    shoal__pack_slot *slot = shoal__pack_index_slot(&a->index, unit->id);
    memset(slot, 0, a->index.header.slot_bytes);
    *slot = (shoal__pack_slot){.unit = (uint32_t)unit->id,
                               .n_part = (uint32_t)unit->n_part,
                               .offset = shoal__pack_align(a->end, SHOAL__PACK_UNIT_ALIGN)};
    uint64_t at = slot->offset;
    for (int32_t i = 0; i < unit->n_part; i++) {
        const shoal_pack_part *part = &unit->part[i];
        const shoal_matrix *m = &part->matrix;
        const size_t data_bytes = shoal__pack_data_bytes(part);
        const size_t scale_bytes = shoal__pack_scale_bytes(part);
        shoal__pack_entry *entry = &shoal__pack_slot_entry(slot)[i];
        *entry = (shoal__pack_entry){.key = part->key,
                                     .format = (uint32_t)m->format,
                                     .n_row = (uint32_t)m->n_row,
                                     .n_col = (uint32_t)m->n_col,
                                     .data_offset = at};
        SHOAL_TRY(write_all(a->fd, m->data, data_bytes, at, a->path, a->writer));
        at = shoal__pack_align(at + data_bytes, SHOAL__PACK_PART_ALIGN);
        if (scale_bytes == 0)
            continue;
        entry->scale_offset = at;
        SHOAL_TRY(write_all(a->fd, m->scale, scale_bytes, at, a->path, a->writer));
        at = shoal__pack_align(at + scale_bytes, SHOAL__PACK_PART_ALIGN);
    }
    slot->n_bytes = at - slot->offset;
    slot->checksum = shoal__pack_checksum(unit, a->writer->poll, a->writer->poll_arg);
    shoal__pack_slot_seal(slot);
    a->end = at;
    return SHOAL_OK;
}

static shoal_status write_slot(appender *a, int32_t unit)
{
    return write_all(a->fd, shoal__pack_index_slot(&a->index, unit), a->index.header.slot_bytes,
                     shoal__pack_index_slot_offset(&a->index, unit), a->path, a->writer);
}

/* Weights to disk, then the slots of the n units that were appended since. */
static shoal_status commit(appender *a, const shoal_pack_unit *const *unit, int32_t n)
{
    /* The last part may end in padding that nobody wrote. */
    if (ftruncate(a->fd, (off_t)a->end) != 0)
        return failed("extended", a->path, a->writer->log);
    if (fdatasync(a->fd) != 0)
        return failed("synced", a->path, a->writer->log);
    poll(a->writer);
    a->committed = a->end; /* from here on slots may refer to it */
    for (int32_t i = 0; i < n; i++)
        SHOAL_TRY(write_slot(a, unit[i]->id));
    if (fdatasync(a->fd) != 0)
        return failed("synced", a->path, a->writer->log);
    return SHOAL_OK;
}

/* A damaged slot must be gone before the file grows: with the file's end moved it could come to
 * refer to another unit's bytes. */
static shoal_status clear_damaged(appender *a)
{
    if (a->index.n_damaged == 0)
        return SHOAL_OK;
    for (int32_t u = 0; u < (int32_t)a->index.header.n_unit; u++) {
        if (a->index.there[u])
            continue;
        memset(shoal__pack_index_slot(&a->index, u), 0, a->index.header.slot_bytes);
        SHOAL_TRY(write_slot(a, u));
    }
    return fdatasync(a->fd) == 0 ? SHOAL_OK : failed("synced", a->path, a->writer->log);
}

static shoal_status append_units(appender *a, const shoal_pack_unit **missing,
                                 const shoal_pack_unit *unit, int32_t n_unit)
{
    int32_t n = 0;
    for (int32_t i = 0; i < n_unit; i++) {
        assert(unit[i].id >= 0 && unit[i].id < (int32_t)a->index.header.n_unit &&
               unit[i].n_part > 0 && unit[i].n_part == unit[0].n_part);
        if (a->index.there[unit[i].id])
            continue;
        SHOAL_TRY(append_unit(a, &unit[i]));
        missing[n++] = &unit[i];
        if (a->end - a->committed < COMMIT_BYTES)
            continue;
        SHOAL_TRY(commit(a, missing, n));
        n = 0;
    }
    return n > 0 ? commit(a, missing, n) : SHOAL_OK;
}

static shoal_status append(uint64_t *n_bytes_added, appender *a, const shoal__pack_shape *shape,
                           const shoal_pack_unit *unit, int32_t n_unit)
{
    shoal_log *log = a->writer->log;
    SHOAL_TRY(shoal__pack_index_read(&a->index, a->fd, a->path, shape, log));
    const int32_t n_part = unit[0].n_part;
    if (a->index.header.n_part < (uint32_t)n_part)
        return shoal_fail(log, SHOAL_BAD_DATA, "%s: has room for %u weights in a unit, wanted %d",
                          a->path, a->index.header.n_part, n_part);
    a->end = a->committed = a->index.end;
    SHOAL_TRY(clear_damaged(a));
    const shoal_pack_unit **missing = calloc((size_t)n_unit + 1, sizeof *missing);
    if (missing == NULL)
        return shoal_fail(log, SHOAL_NO_MEMORY, "%s: no memory to add %d units", a->path, n_unit);
    const shoal_status status = append_units(a, missing, unit, n_unit);
    free(missing);
    *n_bytes_added = a->committed - a->index.end;
    /* A full disk gets back what is of no use. If that fails too, the next writes over it. */
    if (status != SHOAL_OK && ftruncate(a->fd, (off_t)a->committed) != 0)
        return status;
    return status;
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
    appender a = {.writer = writer, .path = path, .fd = -1};
    shoal_status status = SHOAL_OK;
    if (!is_usable(writer, path, shape, n_part))
        status = make_file(writer, path, shape, n_part);
    if (status == SHOAL_OK)
        status = open_locked(&a.fd, writer, path);
    if (status == SHOAL_OK)
        status = append(n_bytes_added, &a, shape, unit, n_unit);
    shoal__pack_index_close(&a.index);
    if (a.fd >= 0)
        close(a.fd); /* and the lock goes */
    free(path);
    return status;
}
