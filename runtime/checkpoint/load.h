/* From checkpoint tensors to packed weights: read in pieces of whole bands of 16 rows and packed as
 * they arrive, so that no weight is ever in memory twice. First all tensors are checked
 * (shoal_load_check_*), on every rank; then each rank reads what it owns, and of a tensor that
 * holds all experts only the bytes of its own. F8_E4M3 weights come with a second tensor
 * NAME_scale_inv: one factor for each block of 128 x 128 elements, ragged at the edges.
 *
 * What a matrix becomes in memory (--weights):
 *     native  as stored; Q8_0 and Q4_0 of GGUF become Q8 and Q4 without loss, its other blocks of
 *             integers F32
 *     bf16    BF16, rounded to nearest even: exact from BF16 and MXFP4
 *     q8, q4  Q8, Q4, quantised from the f32 values (matrix.h); but what is stored in as few bits
 *             already is kept without loss: MXFP4 and Q4_0, with q8 also Q8_0
 * Layering: checkpoint knows kernels (the packed layout) and base. */
#ifndef SHOAL_CHECKPOINT_LOAD_H
#define SHOAL_CHECKPOINT_LOAD_H

#include "runtime/base/pool.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/upload.h"
#include "runtime/kernels/matrix.h"

#define SHOAL_LOAD_PIECE_BYTES (4u << 20)

typedef enum shoal_weights_choice {
    SHOAL_WEIGHTS_NATIVE,
    SHOAL_WEIGHTS_BF16,
    SHOAL_WEIGHTS_Q8,
    SHOAL_WEIGHTS_Q4
} shoal_weights_choice;

const char *shoal_weights_text(shoal_weights_choice weights); /* "native", "bf16", "q8", "q4" */

/* Where a matrix [n_row, n_col] (or a vector [n_row]) lies. The stored matrix has n_stored_row rows
 * and is the tensor itself, or one of n_slice in it; rows row0, row0 + row_step, ... of it are
 * rows 0, 1, ... of the weight. So a half of a fused tensor has row0 = half * n_row and
 * n_stored_row = 2 * n_row, an interleaved one row0 = 0 or 1 and row_step = 2. */
typedef struct shoal_weight_ref {
    const char *name;     /* borrowed */
    int32_t slice;        /* -1: the tensor is the matrix; else index in its first dimension */
    int32_t n_slice;      /* with slice >= 0: the wanted first dimension */
    int32_t n_stored_row; /* the wanted rows of the stored matrix; 0: n_row */
    int32_t row0, row_step;
    bool transposed; /* the stored matrix lies as [n_col, n_stored_row], unless it is MXFP4; not of
                        vectors */
    shoal_weights_choice weights; /* what it becomes; not of vectors */
} shoal_weight_ref;

/* The whole tensor NAME, native. */
shoal_weight_ref shoal_weight_ref_of(const char *name);
/* The whole matrix (vector) number `slice` of NAME [n_slice, n_row, n_col], native. */
shoal_weight_ref shoal_weight_ref_slice(const char *name, int32_t slice, int32_t n_slice);

/* The stored bytes of n_row rows of it with their share of the scales (reading strided rows or a
 * transposed tensor moves more); 0 if it is absent. For totals: nothing is checked. */
uint64_t shoal_weight_ref_bytes(const shoal_checkpoint *checkpoint, shoal_weight_ref ref,
                                int32_t n_row);

typedef struct shoal_loader {
    shoal_checkpoint *checkpoint;
    shoal_log *log;
    void *piece;        /* [piece_bytes], owned by the loader */
    size_t piece_bytes; /* SHOAL_LOAD_PIECE_BYTES; grows where one band has more */
    void (*progress)(
        void *arg,
        uint64_t n_bytes); /* after each piece: signs of life, progress line; may be NULL */
    void *progress_arg;
    shoal_pool *pool; /* packs what was read; borrowed; NULL: the caller's thread alone */
} shoal_loader;

/* Errors: NO_MEMORY. The checkpoint and the log are borrowed. progress and pool may be set
 * afterwards. */
shoal_status shoal_loader_open(shoal_loader *loader, shoal_checkpoint *checkpoint, shoal_log *log);
void shoal_loader_close(shoal_loader *loader); /* accepts a zeroed one */

/* Check name, shape and dtype of a matrix [n_row, n_col] (for F8_E4M3 also NAME_scale_inv, F32,
 * BF16 or F8_E8M0 [ceil(n_row/128), ceil(n_col/128)], and the block size that config.json states)
 * and say which format it packs to, as above; native is F32 (exact) also for rows of an F8_E4M3
 * tensor that do not begin at a block or are not neighbours. Reads no data. Errors: BAD_DATA naming
 * file, tensor, found, wanted. */
shoal_status shoal_load_check_matrix(shoal_format *format, const shoal_loader *loader,
                                     shoal_weight_ref ref, int32_t n_row, int32_t n_col);

/* Check a vector [n] of F32, F16 or BF16. */
shoal_status shoal_load_check_vector(const shoal_loader *loader, shoal_weight_ref ref, int32_t n);

/* Read into w, whose format, shape and memory are set. Errors as above; BAD_DATA for a format that
 * is not w's, for a scale that is not a finite number >= 0 (0 belongs to an all-zero block), and
 * for a value that cannot be quantised (not finite, or too large for a scale in f16); IO,
 * NO_MEMORY. */
shoal_status shoal_load_matrix(shoal_matrix *w, shoal_loader *loader, shoal_weight_ref ref);

/* The same for a w in the memory of a device: the pieces are packed into upload's buffers and
 * travel while the next are read. All is there after shoal_upload_finish. Errors: also what has
 * befallen the device. */
shoal_status shoal_load_matrix_up(shoal_matrix *w, shoal_loader *loader, shoal_weight_ref ref,
                                  shoal_upload *upload);

/* Read rows [row0, row0 + n_row) of the matrix that ref names (of any number of rows, unless ref
 * has n_stored_row) as row-major f32 into dst (scales applied), for weights that are rearranged
 * before packing (MLA's kv_b). */
shoal_status shoal_load_rows_f32(float *dst, shoal_loader *loader, shoal_weight_ref ref,
                                 int32_t row0, int32_t n_row, int32_t n_col);

/* Read a vector as f32. */
shoal_status shoal_load_vector(float *dst, shoal_loader *loader, shoal_weight_ref ref, int32_t n);

#endif
