/* What a checkpoint is made of, for the files that open one. Layering: inside checkpoint. */
#ifndef SHOAL_CHECKPOINT_CHECKPOINT_PRIVATE_H
#define SHOAL_CHECKPOINT_CHECKPOINT_PRIVATE_H

#include "runtime/checkpoint/file.h"
#include "runtime/checkpoint/gguf_names.h"
#include "runtime/checkpoint/safetensors.h"
#include "runtime/checkpoint/staged_folder.h"

struct shoal_checkpoint {
    char *path;
    shoal_log *log;
    shoal__staged *staged; /* or NULL: the files themselves are there */
    shoal_json *config;
    shoal_json *generation_config;
    int32_t n_file;             /* opened, in sorted order of their names */
    shoal__file *file;          /* [n_file] */
    shoal__safetensors *header; /* [n_file] own the names of the tensors; NULL: GGUF */
    shoal__gguf *gguf;          /* [n_file] or NULL; the first one's metadata counts */
    shoal__gguf_names names;    /* GGUF: own the tensors and their names */
    int64_t n_tensor;
    shoal_tensor_info *tensor; /* [n_tensor] sorted by name */
    uint64_t identity;
    uint64_t bytes_read;
};

/* Open a file of weights of the folder, or what stands for it. Errors: as of shoal__file_open. */
shoal_status shoal__checkpoint_file_open(shoal__file *file, const shoal_checkpoint *c,
                                         const char *folder, const char *name);

/* Sort by name. Errors: BAD_DATA (a name that occurs twice). */
shoal_status shoal__checkpoint_sort(shoal_checkpoint *c);

/* c->path is a GGUF file, the first of a split. Fills files, tensors, configs, identity; what is
 * filled when it fails is freed by shoal_checkpoint_close. */
shoal_status shoal__checkpoint_open_gguf(shoal_checkpoint *c);

#endif
