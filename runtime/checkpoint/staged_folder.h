/* The description of a staged checkpoint, read: what stands for its files of weights. Layering:
 * inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_STAGED_FOLDER_H
#define SHOAL_CHECKPOINT_STAGED_FOLDER_H

#include "runtime/checkpoint/file.h"

#include "runtime/base/json.h"

#define SHOAL__STAGED_FORMAT    1
#define SHOAL__STAGED_HEADERS   "staged.headers"
#define SHOAL__STAGED_OPEN_NAME "staging.json" /* the description while weights are missing */

typedef struct shoal__staged_weights {
    const char *name;                 /* in doc */
    uint64_t n_bytes;                 /* of the original */
    int64_t modified_ns;              /* likewise */
    uint64_t header_at, header_bytes; /* in staged.headers */
} shoal__staged_weights;

typedef struct shoal__staged {
    char *folder;
    shoal_json *doc;
    const char *model; /* real path of the original, in doc */
    bool is_gguf;
    int32_t n_weights;
    shoal__staged_weights *weights; /* [n_weights] in the order of the original's files */
} shoal__staged;

/* name: staged.json or staging.json. Checks all of it, and the checksum of the headers. Errors:
 * BAD_DATA, NO_INPUT, IO, NO_MEMORY. */
shoal_status shoal__staged_open(shoal__staged **staged, const char *folder, const char *name,
                                shoal_log *log);
void shoal__staged_close(shoal__staged *staged); /* accepts NULL */

/* True if there is a file of weights of that name. */
bool shoal__staged_has(const shoal__staged *staged, const char *name);

/* The header of a file of weights, as if it were the file. Errors: BAD_DATA (no such), as of
 * shoal__file_open. */
shoal_status shoal__staged_file_open(shoal__file *file, const shoal__staged *staged,
                                     const char *name, shoal_log *log);

#endif
