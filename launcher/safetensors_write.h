/* Writing a .safetensors file: the tensors are declared first, then filled piece by piece in any
 * order; the file appears under its name, whole and synced, or not at all. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_SAFETENSORS_WRITE_H
#define SHOAL_LAUNCHER_SAFETENSORS_WRITE_H

#include "runtime/base/log.h"
#include "runtime/base/tensor.h"

#define SHOAL_SAFETENSORS_WRITE_MAX_TENSOR 8

typedef struct shoal_safetensors_tensor {
    const char *name; /* constant text */
    shoal_dtype dtype;
    int32_t n_dim;
    int64_t shape[4];
} shoal_safetensors_tensor;

typedef struct shoal_safetensors_file {
    shoal_log *log;
    char *path, *temporary;
    int fd;
    int32_t n_tensor;
    uint64_t offset[SHOAL_SAFETENSORS_WRITE_MAX_TENSOR + 1]; /* absolute; the last: the end */
} shoal_safetensors_file;

/* Create the temporary file beside `path` and write its header; space for all is claimed, so that a
 * full disk shows at once. Errors: IO, NO_MEMORY. */
shoal_status shoal_safetensors_create(shoal_safetensors_file *file, const char *path,
                                      const shoal_safetensors_tensor *tensor, int32_t n_tensor,
                                      shoal_log *log);

/* Write n_bytes of tensor `index` behind its byte `first`. Must lie inside. Errors: IO. */
shoal_status shoal_safetensors_put(shoal_safetensors_file *file, int32_t index, uint64_t first,
                                   const void *data, size_t n_bytes);

/* Sync and give it its name. Errors: IO. The file is closed either way. */
shoal_status shoal_safetensors_commit(shoal_safetensors_file *file);

/* Remove what was not committed. Accepts zeroed and committed ones. */
void shoal_safetensors_close(shoal_safetensors_file *file);

#endif
