/* A staged checkpoint: a folder from which a model can be opened where its weights are not, because
 * they lie packed beside it (pack_cache.h, in the same folder). `shoal stage` writes it:
 *
 *     staged.json      MODEL, and name, size and modification time of each file of weights
 *     staged.headers   the headers of these files, one behind the other
 *     config.json, tokenizer.json, ...   as they are in MODEL
 *
 * Opened as MODEL (shoal_checkpoint_open knows it by staged.json), it has the tensors, the identity
 * and the modification times of the original, so that packed weights are found under the same
 * identity; reading a weight is an error. While a folder is being filled its description is called
 * staging.json, and only stage opens it: what is not whole is never used. Layering: checkpoint. */
#ifndef SHOAL_CHECKPOINT_STAGED_H
#define SHOAL_CHECKPOINT_STAGED_H

#include "runtime/checkpoint/checkpoint.h"

#define SHOAL_STAGED_NAME "staged.json"

/* A file of the folder, in memory. */
typedef struct shoal_staged_file {
    char name[48];
    unsigned char *data; /* [n_bytes] owned */
    size_t n_bytes;
} shoal_staged_file;

/* All of them; the description is the last. Owns its memory: shoal_staged_files_close. */
typedef struct shoal_staged_files {
    int32_t n_file;
    shoal_staged_file *file; /* [n_file] */
} shoal_staged_files;

/* Of an opened checkpoint, which may be a staged one. Errors: IO, BAD_DATA, NO_INPUT (a file is not
 * what it was when it was opened), NO_MEMORY. */
shoal_status shoal_staged_describe(shoal_staged_files *files, const shoal_checkpoint *checkpoint,
                                   shoal_log *log);
void shoal_staged_files_close(shoal_staged_files *files); /* accepts a zeroed one */

/* Write them into dir, which is there: each whole (temporary name, fsync, rename), the description
 * last. Nothing is touched where they are already. Errors: USAGE (dir is a checkpoint of its own,
 * or of another model), IO, NO_MEMORY. */
shoal_status shoal_staged_write(const char *dir, const shoal_staged_files *files, shoal_log *log);

/* All weights are there: from now on it can be opened as MODEL. Errors: IO, NO_MEMORY. */
shoal_status shoal_staged_finish(const char *dir, shoal_log *log);
/* They are not after all. Errors: IO, NO_MEMORY. */
shoal_status shoal_staged_withdraw(const char *dir, shoal_log *log);

/* True if dir is a finished staged checkpoint of that MODEL, named as it was to stage or by its
 * real path. */
bool shoal_staged_is_of(const char *dir, const char *model);

/* As shoal_checkpoint_open, for stage: a folder whose weights may not be there yet. */
shoal_status shoal_staged_open(shoal_checkpoint **checkpoint, const char *dir, shoal_log *log);

#endif
