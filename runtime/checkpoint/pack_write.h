/* Writing pack files, safe among any number of processes. An empty file appears under its name
 * whole (temporary name, fsync, rename). Whoever holds its lock (flock) appends: the weights of a
 * unit are written and synced, then its slot is, so that a slot never refers to bytes that are not
 * on disk; what was appended without a slot (killed, disk full) is cut off or overwritten by the
 * next. Layering: inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_PACK_WRITE_H
#define SHOAL_CHECKPOINT_PACK_WRITE_H

#include "runtime/checkpoint/pack_file.h"

typedef struct shoal__pack_writer {
    const char *folder;      /* that holds the files */
    void (*poll)(void *arg); /* called after each few MiB and while a lock is waited for; or NULL */
    void *poll_arg;
    shoal_log *log;
} shoal__pack_writer;

/* Add those of the units that the file does not have; make the file where there is none, or none
 * that can be used. All units of a file have as many parts. unit[].checksum is not read.
 * *n_bytes_added: what the file grew by, also on failure. Errors: IO (with errno's text: a full
 * disk, a limit, no right to write), NO_MEMORY. What was added before stays. */
shoal_status shoal__pack_add(uint64_t *n_bytes_added, const shoal__pack_writer *writer,
                             const char *name, const shoal__pack_shape *shape,
                             const shoal_pack_unit *unit, int32_t n_unit);

/* Write a small whole file: temporary name, fsync, rename. Errors: IO. */
shoal_status shoal__pack_write_whole(const shoal__pack_writer *writer, const char *name,
                                     const void *data, size_t n_bytes);

/* What was renamed or made in the folder stays so. Errors: IO. */
shoal_status shoal__pack_sync_folder(const shoal__pack_writer *writer);

/* For the files that write: fail with errno's text ("x.pack: cannot be WHAT: ..."); call poll;
 * write all bytes at an offset. */
shoal_status shoal__pack_failed(const shoal__pack_writer *writer, const char *path,
                                const char *what);
void shoal__pack_poll(const shoal__pack_writer *writer);
shoal_status shoal__pack_pwrite(const shoal__pack_writer *writer, int fd, const char *path,
                                uint64_t offset, const void *data, size_t n_bytes);

#endif
