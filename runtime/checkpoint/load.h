/* From checkpoint tensors to packed weights: read in pieces of at most SHOAL_LOAD_PIECE_BYTES and
 * packed as they arrive, so that no weight is ever in memory twice. First all tensors are checked
 * (shoal_load_check_*), on every rank; then each rank reads what it owns. Layering: checkpoint
 * knows kernels (the packed layout) and base. */
#ifndef SHOAL_CHECKPOINT_LOAD_H
#define SHOAL_CHECKPOINT_LOAD_H

#include "runtime/checkpoint/checkpoint.h"
#include "runtime/kernels/matrix.h"

#define SHOAL_LOAD_PIECE_BYTES (4u << 20)

typedef struct shoal_loader {
    shoal_checkpoint *checkpoint;
    shoal_log *log;
    void *piece; /* [SHOAL_LOAD_PIECE_BYTES], owned by the loader */
    void (*progress)(
        void *arg,
        uint64_t n_bytes); /* after each piece: signs of life, progress line; may be NULL */
    void *progress_arg;
} shoal_loader;

shoal_status shoal_loader_open(shoal_loader *loader, shoal_checkpoint *checkpoint, shoal_log *log);
void shoal_loader_close(shoal_loader *loader);

/* Check name, shape and dtype of a matrix [n_row, n_col] (for F8_E4M3 also NAME_scale_inv, F32
 * [ceil(n_row/128), ceil(n_col/128)]) and say which format it packs to. Errors: BAD_DATA naming
 * file, tensor, found, wanted. */
shoal_status shoal_load_check_matrix(shoal_format *format, const shoal_loader *loader,
                                     const char *name, int32_t n_row, int32_t n_col);

/* Check a vector [n] of F32, F16 or BF16. */
shoal_status shoal_load_check_vector(const shoal_loader *loader, const char *name, int32_t n);

/* Read into w, whose format, shape and memory are set. Errors as above; BAD_DATA for a scale that
 * is not a finite number > 0 (0 is allowed for an all-zero block). */
shoal_status shoal_load_matrix(shoal_matrix *w, shoal_loader *loader, const char *name);

/* Read rows [row0, row0 + n_row) of matrix NAME [*, n_col] as row-major f32 into dst (scales
 * applied), for weights that are rearranged before packing (MLA's kv_b). */
shoal_status shoal_load_rows_f32(float *dst, shoal_loader *loader, const char *name, int32_t row0,
                                 int32_t n_row, int32_t n_col);

/* Read a vector as f32. */
shoal_status shoal_load_vector(float *dst, shoal_loader *loader, const char *name, int32_t n);

#endif
