/* Numbers and matrices to feed kernels with, the same on every machine, and the comparison of
 * bytes. Without Check, for the programs that are cross-compiled. */
#ifndef SHOAL_TESTS_KERNELS_INPUTS_H
#define SHOAL_TESTS_KERNELS_INPUTS_H

#include "runtime/kernels/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A 64-bit LCG with the high bits used: the same numbers on every machine. */
typedef struct source {
    uint64_t state;
} source;

static inline uint32_t draw(source *s)
{
    s->state = s->state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(s->state >> 32);
}

/* In [-1, 1). */
static inline float draw_float(source *s)
{
    return (float)((int32_t)draw(s) >> 8) * 0x1p-23f;
}

static inline void fill(float *x, int64_t n, source *s)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = draw_float(s);
}

/* Any number but NaN and infinity: all exponents, subnormals and both zeros included. */
static inline float draw_any(source *s)
{
    for (;;) {
        uint32_t bits = draw(s);
        if (bits % 61 == 0)
            bits &= 0x80000000u;
        else if (bits % 59 == 0)
            bits &= 0x807fffffu;
        if ((bits & 0x7f800000u) == 0x7f800000u)
            continue;
        float x;
        memcpy(&x, &bits, sizeof x);
        return x;
    }
}

/* Zeroed, 64-byte aligned; the caller frees it. */
static inline void *room(size_t n_bytes)
{
    void *p = aligned_alloc(64, (n_bytes + 64) / 64 * 64);
    if (p == NULL)
        abort();
    memset(p, 0, n_bytes);
    return p;
}

static inline float *floats(int64_t n)
{
    return room((size_t)n * sizeof(float));
}

static inline bool same_bits(float a, float b)
{
    uint32_t bits_a, bits_b;
    memcpy(&bits_a, &a, sizeof bits_a);
    memcpy(&bits_b, &b, sizeof bits_b);
    return bits_a == bits_b;
}

/* The first value of `got` that is not bit for bit that of `want`, -1 if there is none. Two NaN are
 * equal. */
static inline int64_t first_difference(const float *got, const float *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (!same_bits(got[i], want[i]) && !(isnan(got[i]) && isnan(want[i])))
            return i;
    }
    return -1;
}

/* A packed matrix of random elements of the format's own type. Values are moderate; FP8 gets random
 * bytes, all subnormals and zeros included, and random scales. Free with drop_matrix. */
static inline void *random_elements(shoal_format format, int64_t n, source *s)
{
    uint8_t *raw = room((size_t)n * 4);
    for (int64_t i = 0; i < n; i++) {
        float value = draw(s) % 37 == 0 ? draw_float(s) * 1e-7f : draw_float(s);
        if (format == SHOAL_FORMAT_F32) {
            ((float *)(void *)raw)[i] = value;
        } else if (format == SHOAL_FORMAT_F16) {
            ((uint16_t *)(void *)raw)[i] = shoal_f32_to_f16(value);
        } else if (format == SHOAL_FORMAT_BF16) {
            ((uint16_t *)(void *)raw)[i] = shoal_f32_to_bf16(value);
        } else {
            uint8_t byte = (uint8_t)draw(s);
            raw[i] = (byte & 0x7f) == 0x7f ? 0x11 : byte;
        }
    }
    return raw;
}

static inline shoal_matrix empty_matrix(shoal_format format, int32_t n_row, int32_t n_col)
{
    size_t scale_bytes = shoal_matrix_scale_bytes(format, n_row, n_col);
    return (shoal_matrix){.format = format,
                          .n_row = n_row,
                          .n_col = n_col,
                          .data = room(shoal_matrix_data_bytes(format, n_row, n_col)),
                          .scale = scale_bytes > 0 ? room(scale_bytes) : NULL};
}

/* Columns that a format can have: MXFP4 only knows whole groups. */
static inline int32_t columns(shoal_format format, int32_t n_col)
{
    int32_t group = format == SHOAL_FORMAT_MXFP4 ? SHOAL_GROUP : 1;
    return (n_col + group - 1) / group * group;
}

static inline shoal_matrix random_mxfp4(int32_t n_row, int32_t n_col, source *s)
{
    shoal_matrix w = empty_matrix(SHOAL_FORMAT_MXFP4, n_row, n_col);
    int64_t n_group = (int64_t)n_row * n_col / SHOAL_GROUP;
    uint8_t *blocks = room((size_t)n_group * 16);
    uint8_t *scales = room((size_t)n_group);
    for (int64_t i = 0; i < n_group * 16; i++)
        blocks[i] = (uint8_t)draw(s);
    for (int64_t i = 0; i < n_group; i++)
        scales[i] = (uint8_t)(119 + draw(s) % 8);
    shoal_matrix_pack_mxfp4(&w, 0, n_row, blocks, scales);
    free(scales);
    free(blocks);
    return w;
}

/* Q8 and Q4 of random values, a few groups of them zero. */
static inline shoal_matrix random_quantised(shoal_format format, int32_t n_row, int32_t n_col,
                                            source *s)
{
    shoal_matrix w = empty_matrix(format, n_row, n_col);
    float *rows = floats((int64_t)n_row * n_col);
    int32_t bad_row = -1;
    for (int32_t r = 0; r < n_row; r++) {
        for (int32_t c0 = 0; c0 < n_col; c0 += SHOAL_GROUP) {
            float size = draw(s) % 19 == 0 ? 0.0f : draw_float(s);
            for (int32_t c = c0; c < n_col && c < c0 + SHOAL_GROUP; c++)
                rows[(int64_t)r * n_col + c] = size * draw_float(s);
        }
    }
    if (!shoal_matrix_pack_quantised(&w, 0, n_row, rows, &bad_row))
        abort();
    free(rows);
    return w;
}

static inline shoal_matrix random_matrix(shoal_format format, int32_t n_row, int32_t n_col,
                                         source *s)
{
    if (format == SHOAL_FORMAT_MXFP4)
        return random_mxfp4(n_row, columns(format, n_col), s);
    if (shoal_format_is_quantised(format))
        return random_quantised(format, n_row, n_col, s);
    shoal_matrix w = empty_matrix(format, n_row, n_col);
    void *raw = random_elements(format, (int64_t)n_row * n_col, s);
    shoal_matrix_pack(&w, 0, n_row, raw);
    free(raw);
    size_t n_scale = shoal_matrix_scale_bytes(format, n_row, n_col) / sizeof(float);
    for (size_t i = 0; i < n_scale; i++)
        w.scale[i] = 0.01f + 0.01f * draw_float(s);
    return w;
}

static inline void drop_matrix(shoal_matrix *w)
{
    free(w->data);
    free(w->scale);
}

#endif
