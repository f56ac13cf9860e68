/* model.safetensors.index.json: which shards there are, and in which of them each tensor lies
 * (weight_map). Its file names come from outside: only names that stay inside the folder are taken.
 * Layering: inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_INDEX_H
#define SHOAL_CHECKPOINT_INDEX_H

#include "runtime/checkpoint/checkpoint.h"

#define SHOAL_INDEX_NAME "model.safetensors.index.json"

typedef struct shoal__index {
    shoal_json *doc;
    const shoal_json *weight_map; /* tensor name -> file name; borrowed from doc */
    char *path;                   /* for messages; owned */
    int32_t n_file;
    const char **file_name; /* [n_file] sorted, distinct; borrowed from doc */
} shoal__index;

/* Errors: BAD_DATA (not JSON, no weight_map, names that leave the folder), NO_INPUT, IO. */
shoal_status shoal__index_open(shoal__index *index, const char *folder, shoal_log *log);
void shoal__index_close(shoal__index *index); /* accepts a zeroed one */

/* Every tensor of the checkpoint lies where weight_map says, and it names no other. Errors:
 * BAD_DATA naming index, tensor and both files. */
shoal_status shoal__index_check(const shoal__index *index, const shoal_checkpoint *checkpoint,
                                shoal_log *log);

#endif
