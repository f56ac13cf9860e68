/* A file of a checkpoint folder: opened once, read with pread, so that a file that shrinks or is
 * replaced while a run loads gives an error (or the old bytes), never a signal. Layering: inside
 * checkpoint. */
#ifndef SHOAL_CHECKPOINT_FILE_H
#define SHOAL_CHECKPOINT_FILE_H

#include "runtime/base/log.h"

#include <stddef.h>

/* Longest JSON text that is taken: safetensors headers, the index, config.json. The index of a
 * 700 GB checkpoint has 9 MB. */
#define SHOAL_JSON_MAX_BYTES 100000000u

typedef struct shoal__file {
    int fd;              /* -1: not open */
    uint64_t n_bytes;    /* when it was opened */
    int64_t modified_ns; /* of the clock, likewise */
    /* A staged file (staged.h): only its first n_stored bytes are here, at stored_at of fd. */
    bool is_staged;
    uint64_t stored_at, n_stored;
    char *path;       /* folder and name, for opening and for messages; owned */
    const char *name; /* the part of path behind the folder */
} shoal__file;

struct stat;
int64_t shoal__modified_ns(const struct stat *entry);

/* "folder/name", for free(); NULL if memory is out. */
char *shoal__path_join(const char *folder, const char *name);

/* True if the folder has an entry of that name, also if it is a link to nothing: then opening it
 * says so, and a half-deleted download does not pass for an absent file. */
bool shoal__file_exists(const char *folder, const char *name);

/* Errors: NO_INPUT (absent), BAD_DATA (not a regular file), IO, NO_MEMORY. */
shoal_status shoal__file_open(shoal__file *file, const char *folder, const char *name,
                              shoal_log *log);
void shoal__file_close(shoal__file *file); /* accepts a failed or zeroed one with path NULL */

/* Bytes that can be read: those behind are not here. */
uint64_t shoal__file_readable(const shoal__file *file);

/* Bytes [offset, offset + n_bytes) into dst. Errors: BAD_DATA (the file ends earlier: it shrank; of
 * a staged file they are not here), IO. */
shoal_status shoal__file_read(const shoal__file *file, uint64_t offset, size_t n_bytes, void *dst,
                              shoal_log *log);

#endif
