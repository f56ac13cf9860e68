/* A packed weight matrix W [n_row, n_col] (out, in), in the one layout of every instruction set:
 * bands of 16 rows, interleaved by column, so element (r, c) is number (r / 16) * 16 * n_col + c *
 * 16 + r % 16 of `data`. The last band is padded with zero rows. A lane is an output row: it
 * accumulates over the columns in order, in f32, with fma (rule 1). Nothing in this layout depends
 * on an ISA.
 *
 * FP8_BLOCK: e4m3 bytes and f32 scales [ceil(n_row/128), ceil(n_col/128)] row-major; w = e4m3 *
 * scale. Its sum is grouped: each 128 columns are accumulated on their own, then acc = fma(scale,
 * group, acc).
 *
 * MXFP4: e2m1 nibbles and e8m0 scales, one per row and 32 columns (n_col is a multiple of 32), both
 * in `data`: per band, per 32 columns in order, 272 bytes: the scales of the 16 rows, then 256
 * bytes of which number p * 16 + r holds column p of row r in its low nibble and column p + 16 in
 * its high one. Its sum is grouped by 32 columns in the same way, with a scale per lane.
 * Layering: kernels know base only. */
#ifndef SHOAL_KERNELS_MATRIX_H
#define SHOAL_KERNELS_MATRIX_H

#include "runtime/base/tensor.h"

#include <stdbool.h>

#define SHOAL_BAND      16  /* rows interleaved */
#define SHOAL_FP8_BLOCK 128 /* rows and columns that share a scale */

#define SHOAL_MXFP4_GROUP       32  /* columns that share a scale */
#define SHOAL_MXFP4_GROUP_BYTES 272 /* of a band in `data`: 16 scales, 16 * 32 nibbles */

typedef enum shoal_format {
    SHOAL_FORMAT_F32,
    SHOAL_FORMAT_F16,
    SHOAL_FORMAT_BF16,
    SHOAL_FORMAT_FP8_BLOCK,
    SHOAL_FORMAT_MXFP4,
    SHOAL_N_FORMAT
} shoal_format;

typedef struct shoal_matrix {
    shoal_format format;
    int32_t n_row; /* outputs */
    int32_t n_col; /* inputs */
    void *data;    /* packed elements, 64-byte aligned */
    float *scale;  /* FP8_BLOCK: [ceil(n_row/128), ceil(n_col/128)], else NULL */
} shoal_matrix;

/* Bands of a matrix: ceil(n_row / 16). */
int32_t shoal_matrix_n_band(const shoal_matrix *w);

/* Bytes of `data` and of `scale` for a format and shape. */
size_t shoal_matrix_data_bytes(shoal_format format, int32_t n_row, int32_t n_col);
size_t shoal_matrix_scale_bytes(shoal_format format, int32_t n_row, int32_t n_col);

const char *shoal_format_text(shoal_format format);

/* The format that stores `dtype` without loss (F8_E4M3 -> FP8_BLOCK). False if there is none;
 * MXFP4 is stored as two U8 tensors and never the answer. */
bool shoal_format_of_dtype(shoal_format *format, shoal_dtype dtype);

/* Pack rows [row0, row0 + n_row) from row-major source elements of the format's own dtype.
 * row0 is a multiple of 16; n_row is too unless it ends the matrix (then the padding is zeroed).
 * src: [n_row, w->n_col], any alignment. Scales are the caller's to fill. Not for MXFP4. */
void shoal_matrix_pack(shoal_matrix *w, int32_t row0, int32_t n_row, const void *src);

/* The same for MXFP4, from what gpt-oss releases: blocks [n_row, n_col / 32, 16], byte b of 16
 * holds element 2b in its low nibble and 2b + 1 in its high one; scales [n_row, n_col / 32] e8m0,
 * 2^(u8 - 127). A scale of 255 is a NaN that the caller refuses beforehand. */
void shoal_matrix_pack_mxfp4(shoal_matrix *w, int32_t row0, int32_t n_row, const uint8_t *blocks,
                             const uint8_t *scales);

/* The element (row, col) as f32, scale applied. For tests and for building other matrices. */
float shoal_matrix_at(const shoal_matrix *w, int32_t row, int32_t col);

#endif
