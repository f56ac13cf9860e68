/* Rows of activations as they travel between ranks: three encodings, the same bits on every device
 * (comm/wire.h says which one is used when). Layering: kernels know base only. */
#ifndef SHOAL_KERNELS_WIRE_H
#define SHOAL_KERNELS_WIRE_H

#include "runtime/kernels/kernels.h"

typedef enum shoal_wire_encoding {
    SHOAL_WIRE_F32,
    SHOAL_WIRE_BF16,
    SHOAL_WIRE_INT8, /* groups of 32: int8 [n] padded to 4 bytes, then f32 scales [ceil(n/32)] */
} shoal_wire_encoding;

/* Bytes of one encoded row of n values. A multiple of 4. */
size_t shoal_wire_row_bytes(shoal_wire_encoding encoding, int32_t n);

void shoal_wire_encode(void *row, shoal_wire_encoding encoding, const shoal_kernels *kernels,
                       const float *x, int32_t n);
void shoal_wire_decode(float *x, shoal_wire_encoding encoding, const shoal_kernels *kernels,
                       const void *row, int32_t n);

/* y[i] = fma(a, value i of the row, y[i]), for the encodings of results: f32 and bf16. */
void shoal_wire_axpy(float *y, shoal_wire_encoding encoding, const shoal_kernels *kernels, float a,
                     const void *row, int32_t n);

/* A row of SHOAL_WIRE_INT8 from and to the groups that kernels multiply with, [ceil(n / 32)]: the
 * integers and scales of the wire themselves, so that a row is rounded once, at its source. */
void shoal_wire_encode_groups(void *row, const shoal_int8_group *x, int32_t n);
void shoal_wire_decode_groups(shoal_int8_group *x, const void *row, int32_t n);

const char *shoal_wire_text(shoal_wire_encoding encoding); /* "f32", "bf16", "int8" */

#endif
