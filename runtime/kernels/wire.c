#include "runtime/kernels/wire.h"

#include <assert.h>
#include <string.h>

static size_t padded(size_t n_bytes)
{
    return (n_bytes + 3) / 4 * 4;
}

size_t shoal_wire_row_bytes(shoal_wire_encoding encoding, int32_t n)
{
    size_t n_value = (size_t)n;
    switch (encoding) {
    case SHOAL_WIRE_F32:
        return n_value * sizeof(float);
    case SHOAL_WIRE_BF16:
        return padded(n_value * sizeof(uint16_t));
    case SHOAL_WIRE_INT8:
        return padded(n_value) + (n_value + SHOAL_GROUP - 1) / SHOAL_GROUP * sizeof(float);
    }
    return 0;
}

/* Rows lie at multiples of 4 bytes, so they are used as arrays in place. */
void shoal_wire_encode(void *row, shoal_wire_encoding encoding, const shoal_kernels *kernels,
                       const float *x, int32_t n)
{
    unsigned char *bytes = row;
    size_t n_value = (size_t)n;
    switch (encoding) {
    case SHOAL_WIRE_F32:
        memcpy(bytes, x, n_value * sizeof(float));
        return;
    case SHOAL_WIRE_BF16:
        kernels->to_bf16(row, x, n);
        memset(bytes + n_value * sizeof(uint16_t), 0,
               padded(n_value * sizeof(uint16_t)) - n_value * sizeof(uint16_t));
        return;
    case SHOAL_WIRE_INT8:
        kernels->to_int8(row, (float *)(void *)(bytes + padded(n_value)), x, n);
        memset(bytes + n_value, 0, padded(n_value) - n_value);
        return;
    }
}

void shoal_wire_decode(float *x, shoal_wire_encoding encoding, const shoal_kernels *kernels,
                       const void *row, int32_t n)
{
    const unsigned char *bytes = row;
    switch (encoding) {
    case SHOAL_WIRE_F32:
        memcpy(x, bytes, (size_t)n * sizeof(float));
        return;
    case SHOAL_WIRE_BF16:
        kernels->from_bf16(x, row, n);
        return;
    case SHOAL_WIRE_INT8:
        kernels->from_int8(x, row, (const float *)(const void *)(bytes + padded((size_t)n)), n);
        return;
    }
}

void shoal_wire_axpy(float *y, shoal_wire_encoding encoding, const shoal_kernels *kernels, float a,
                     const void *row, int32_t n)
{
    assert(encoding != SHOAL_WIRE_INT8);
    if (encoding == SHOAL_WIRE_F32)
        kernels->axpy(y, a, row, n);
    else
        kernels->axpy_bf16(y, a, row, n);
}

void shoal_wire_encode_groups(void *row, const shoal_int8_group *x, int32_t n)
{
    unsigned char *bytes = row;
    unsigned char *scales = bytes + padded((size_t)n);
    for (int32_t g = 0; g * SHOAL_GROUP < n; g++) {
        size_t n_left = padded((size_t)(n - g * SHOAL_GROUP)); /* behind a row q is 0 */
        memcpy(bytes + (size_t)g * SHOAL_GROUP, x[g].q,
               n_left < SHOAL_GROUP ? n_left : SHOAL_GROUP);
        memcpy(scales + (size_t)g * sizeof(float), &x[g].scale, sizeof(float));
    }
}

void shoal_wire_decode_groups(shoal_int8_group *x, const void *row, int32_t n)
{
    const unsigned char *bytes = row;
    const unsigned char *scales = bytes + padded((size_t)n);
    for (int32_t g = 0; g * SHOAL_GROUP < n; g++) {
        shoal_int8_group group = {0};
        int32_t n_left = n - g * SHOAL_GROUP;
        memcpy(group.q, bytes + (size_t)g * SHOAL_GROUP,
               (size_t)(n_left < SHOAL_GROUP ? n_left : SHOAL_GROUP));
        memcpy(&group.scale, scales + (size_t)g * sizeof(float), sizeof(float));
        for (int32_t i = 0; i < SHOAL_GROUP; i++)
            group.minus_8_sum -= 8 * group.q[i];
        x[g] = group;
    }
}

const char *shoal_wire_text(shoal_wire_encoding encoding)
{
    switch (encoding) {
    case SHOAL_WIRE_F32:
        return "f32";
    case SHOAL_WIRE_BF16:
        return "bf16";
    case SHOAL_WIRE_INT8:
        return "int8";
    }
    return "unknown";
}
