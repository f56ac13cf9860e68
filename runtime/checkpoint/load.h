/* From checkpoint tensors to packed weights: read in pieces of whole bands of 16 rows and packed as
 * they arrive, so that no weight is ever in memory twice. First all tensors are checked
 * (shoal_load_check_*), on every rank; then each rank reads what it owns. F8_E4M3 weights come with
 * a second tensor NAME_scale_inv: one factor for each block of 128 x 128 elements, ragged at the
 * edges. Layering: checkpoint knows kernels (the packed layout) and base. */
#ifndef SHOAL_CHECKPOINT_LOAD_H
#define SHOAL_CHECKPOINT_LOAD_H

#include "runtime/checkpoint/checkpoint.h"
#include "runtime/kernels/matrix.h"

#define SHOAL_LOAD_PIECE_BYTES (4u << 20)

typedef struct shoal_loader {
    shoal_checkpoint *checkpoint;
    shoal_log *log;
    void *piece;        /* [piece_bytes], owned by the loader */
    size_t piece_bytes; /* SHOAL_LOAD_PIECE_BYTES; grows where one band has more */
    void (*progress)(
        void *arg,
        uint64_t n_bytes); /* after each piece: signs of life, progress line; may be NULL */
    void *progress_arg;
} shoal_loader;

/* Errors: NO_MEMORY. The checkpoint and the log are borrowed. progress may be set afterwards. */
shoal_status shoal_loader_open(shoal_loader *loader, shoal_checkpoint *checkpoint, shoal_log *log);
void shoal_loader_close(shoal_loader *loader); /* accepts a zeroed one */

/* Check name, shape and dtype of a matrix [n_row, n_col] (for F8_E4M3 also NAME_scale_inv, F32 or
 * BF16 [ceil(n_row/128), ceil(n_col/128)], and the block size that config.json states) and say
 * which format it packs to. Reads no data. Errors: BAD_DATA naming file, tensor, found, wanted. */
shoal_status shoal_load_check_matrix(shoal_format *format, const shoal_loader *loader,
                                     const char *name, int32_t n_row, int32_t n_col);

/* Check a vector [n] of F32, F16 or BF16. */
shoal_status shoal_load_check_vector(const shoal_loader *loader, const char *name, int32_t n);

/* Read into w, whose format, shape and memory are set. Errors as above; BAD_DATA for a format that
 * is not w's and for a scale that is not a finite number >= 0 (0 belongs to an all-zero block);
 * IO, NO_MEMORY. */
shoal_status shoal_load_matrix(shoal_matrix *w, shoal_loader *loader, const char *name);

/* Read rows [row0, row0 + n_row) of matrix NAME [*, n_col] as row-major f32 into dst (scales
 * applied), for weights that are rearranged before packing (MLA's kv_b). */
shoal_status shoal_load_rows_f32(float *dst, shoal_loader *loader, const char *name, int32_t row0,
                                 int32_t n_row, int32_t n_col);

/* Read a vector as f32. */
shoal_status shoal_load_vector(float *dst, shoal_loader *loader, const char *name, int32_t n);

#endif
