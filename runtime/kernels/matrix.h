/* A packed weight matrix W [n_row, n_col] (out, in), in the one layout of every instruction set:
 * bands of 16 rows, interleaved by column, so element (r, c) is number (r / 16) * 16 * n_col + c *
 * 16 + r % 16 of `data`. The last band is padded with zero rows. A lane is an output row: it
 * accumulates over the columns in order, in f32, with fma (rule 1). Nothing in this layout depends
 * on an ISA.
 *
 * FP8_BLOCK: e4m3 bytes, interleaved by pairs of columns: byte (c / 2) * 32 + r * 2 + c % 2 of a
 * band, an odd last column with a zero beside it. w = e4m3 * scale with f32 scales
 * [ceil(n_row/128), ceil(n_col/128)] row-major. The sum is grouped: each 128 columns are
 * accumulated on their own with e4m3 / 256, then acc = fma(256 * scale, group, acc). The codes
 * 0x7f and 0xff (NaN), which the caller refuses beforehand, count as numbers.
 *
 * The quantised formats Q8, Q4 and MXFP4 (shoal_format_is_quantised) have groups of 32 columns with
 * a scale per row and group. A band is then ceil(n_col / 32) groups in order, each: the scales of
 * its 16 rows, then quads: byte p * 64 + r * 4 + j belongs to row r and column 4p + j, so that a
 * lane holds four neighbouring columns, which is what integer dot products take. Columns behind
 * n_col are zeros.
 *
 *     Q8     w = scale * q, q in -127..127; f16 scales; 8 quads of bytes q + 128
 *     Q4     w = scale * q, q in -8..7; f16 scales; 4 quads of nibbles q + 8: the low one of
 *            column 4p + j, the high one of column 16 + 4p + j
 *     MXFP4  w = 2^(e - 127) * e2m1; scales are the bytes e; 4 quads of nibbles as in Q4
 *
 * With f32 activations the sum of each group is accumulated on its own and then
 * acc = fma(scale, group, acc), as for FP8. With int8 activations see kernels.h, matmul_int8.
 * Layering: kernels know base only. */
#ifndef SHOAL_KERNELS_MATRIX_H
#define SHOAL_KERNELS_MATRIX_H

#include "runtime/base/tensor.h"

#include <stdbool.h>

#define SHOAL_BAND      16  /* rows interleaved */
#define SHOAL_FP8_BLOCK 128 /* rows and columns that share a scale */

#define SHOAL_GROUP             32  /* columns that share a scale in Q8, Q4, MXFP4 and int8 rows */
#define SHOAL_Q8_GROUP_BYTES    544 /* of a band in `data`: 16 f16, 16 * 32 bytes */
#define SHOAL_Q4_GROUP_BYTES    288 /* 16 f16, 16 * 32 nibbles */
#define SHOAL_MXFP4_GROUP_BYTES 272 /* 16 e8m0, 16 * 32 nibbles */

typedef enum shoal_format {
    SHOAL_FORMAT_F32,
    SHOAL_FORMAT_F16,
    SHOAL_FORMAT_BF16,
    SHOAL_FORMAT_FP8_BLOCK,
    SHOAL_FORMAT_MXFP4,
    SHOAL_FORMAT_Q8,
    SHOAL_FORMAT_Q4,
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

/* Q8, Q4, MXFP4: the formats that int8 activations can meet. */
bool shoal_format_is_quantised(shoal_format format);

/* Pack rows [row0, row0 + n_row) from row-major source elements of the format's own dtype.
 * row0 is a multiple of 16; n_row is too unless it ends the matrix (then the padding is zeroed).
 * src: [n_row, w->n_col], any alignment. Scales are the caller's to fill. Not for the
 * quantised formats. */
void shoal_matrix_pack(shoal_matrix *w, int32_t row0, int32_t n_row, const void *src);

/* The same for MXFP4, from what gpt-oss releases: blocks [n_row, n_col / 32, 16], byte b of 16
 * holds element 2b in its low nibble and 2b + 1 in its high one; scales [n_row, n_col / 32] e8m0,
 * 2^(u8 - 127). A scale of 255 is a NaN that the caller refuses beforehand. */
void shoal_matrix_pack_mxfp4(shoal_matrix *w, int32_t row0, int32_t n_row, const uint8_t *blocks,
                             const uint8_t *scales);

/* The same for Q8 and Q4, from f32 rows that are quantised here. Per row and group, in f32:
 *     Q8  scale = f16(amax / 127), q = round-half-even(x / scale) within -127 .. 127
 *     Q4  scale = f16(m / -8), m the value of largest magnitude (the first of equals),
 *         q = round-half-even(x / scale) within -8 .. 7
 * and q = 0 where the f16 scale is 0. False, with the row of w in *bad_row, if a value is not
 * finite or a scale is beyond f16. */
bool shoal_matrix_pack_quantised(shoal_matrix *w, int32_t row0, int32_t n_row, const float *src,
                                 int32_t *bad_row);

/* The same from the blocks of 32 of GGUF, [n_row, n_col / 32], without loss: Q8_0 (f16 scale, 32
 * int8) into Q8, Q4_0 (f16 scale, 16 bytes of nibbles, low ones first) into Q4. n_col is a multiple
 * of 32. (-128, which no quantiser writes, fits Q8.) */
void shoal_matrix_pack_blocks(shoal_matrix *w, int32_t row0, int32_t n_row, const void *blocks);

/* The element (row, col) as f32, scale applied. For tests and for building other matrices. */
float shoal_matrix_at(const shoal_matrix *w, int32_t row, int32_t col);

/* y [n_col] = a row, the same values: what an embedding look-up takes. */
void shoal_matrix_row(float *y, const shoal_matrix *w, int32_t row);

#endif
