/* The two products of attention, scores and values, over what the cache holds: matmul's inner loop,
 * acc[t][lane] += x[t][k] * w[k][lane] in the order of k.
 *
 * Few rows take a block of the cache as it lies and decode it in registers. Many rows share a
 * panel: a part that is decoded once to f32, small enough to stay in an L1 while all rows pass over
 * it. Layering: inside runtime/kernels/cpu only. */
#ifndef SHOAL_KERNELS_CPU_ATTENTION_PRODUCT_H
#define SHOAL_KERNELS_CPU_ATTENTION_PRODUCT_H

#include "runtime/kernels/cpu/decode.h"
#include "runtime/kernels/cpu/vec_math.h"

enum {
    SHOAL__FEW_ROWS =
        SHOAL_LANES == 16 ? 8 : 4, /* whose sums stay in registers, with 2 bands or 1 */

    SHOAL__PANEL_BANDS = 4,
    SHOAL__PANEL_COLUMNS = 64, /* 16 KiB with the bands */
    SHOAL__PANEL_WIDTH = SHOAL__PANEL_BANDS * SHOAL_BAND,
    SHOAL__PANEL_ROWS = 6, /* whose sums stay in registers, with all bands or 1 */
};

/* One product: acc [n_row, ld_acc] += x [n_row, ld_x] * w, over n columns of x in order. w: bands
 * of 16 lanes that lie band_bytes apart, in each the columns step_bytes apart. */
typedef struct shoal__product {
    float *acc;
    int64_t ld_acc;
    const float *x;
    int64_t ld_x;
    const unsigned char *w;
    size_t step_bytes, band_bytes;
    int32_t n, n_row, n_band;
    bool fresh;                /* acc = instead of += */
    const unsigned char *next; /* read after this: as many bytes are fetched ahead as w has */
} shoal__product;

/* n_row rows from row t0, of which those from n_real on repeat the last and are dropped, times
 * n_band bands from band b0. Both are constants. */
SHOAL_INLINE void mac_tile(const shoal__product *m, int32_t t0, int32_t n_real, int32_t b0,
                           const shoal__codec codec, const int32_t n_row, const int32_t n_band,
                           const bool ahead)
{
    const unsigned char *w = m->w + (size_t)b0 * m->band_bytes;
    shoal__vec a[8][4 * SHOAL_PARTS];
    const float *x[8];
#pragma GCC unroll 8
    for (int32_t t = 0; t < n_row; t++) {
        int32_t real = t0 + (t < n_real ? t : n_real - 1);
        x[t] = m->x + real * m->ld_x;
#pragma GCC unroll 16
        for (int32_t p = 0; p < n_band * SHOAL_PARTS; p++)
            a[t][p] = m->fresh ? shoal__vec_set(0.0f)
                               : shoal__vec_load(m->acc + real * m->ld_acc + b0 * SHOAL_BAND +
                                                 p * SHOAL_LANES);
    }
    const size_t column_bytes = shoal__step_bytes(codec) * (size_t)n_band;
    const unsigned char *next =
        !ahead ? NULL : m->next + (size_t)b0 * column_bytes / (size_t)n_band * (size_t)m->n;
    for (int32_t k = 0; k < m->n; k++) {
        const unsigned char *column = w + (size_t)k * m->step_bytes;
        shoal__vec v[4 * SHOAL_PARTS];
#pragma GCC unroll 4
        for (size_t i = 0; ahead && i < column_bytes; i += 64)
            __builtin_prefetch(next + (size_t)k * column_bytes + i, 0, 2);
#pragma GCC unroll 4
        for (int32_t b = 0; b < n_band; b++)
            shoal__decode(v + b * SHOAL_PARTS, codec, column + (size_t)b * m->band_bytes, 0);
#pragma GCC unroll 8
        for (int32_t t = 0; t < n_row; t++) {
#pragma GCC unroll 16
            for (int32_t p = 0; p < n_band * SHOAL_PARTS; p++)
                a[t][p] = shoal__vec_fma(x[t][k], v[p], a[t][p]);
        }
    }
#pragma GCC unroll 8
    for (int32_t t = 0; t < n_row; t++) {
        if (t >= n_real)
            break;
#pragma GCC unroll 16
        for (int32_t p = 0; p < n_band * SHOAL_PARTS; p++)
            shoal__vec_store(m->acc + (t0 + t) * m->ld_acc + b0 * SHOAL_BAND + p * SHOAL_LANES,
                             a[t][p]);
    }
}

/* All bands, n_band at a time: as many as keep the chains of few rows from waiting for themselves.
 */
SHOAL_INLINE void mac_rows(const shoal__product *m, int32_t t0, int32_t n_real,
                           const shoal__codec codec, const int32_t n_row, const int32_t n_band)
{
    int32_t b = 0;
    for (; b + n_band <= m->n_band; b += n_band)
        mac_tile(m, t0, n_real, b, codec, n_row, n_band, true);
    for (; b < m->n_band; b++)
        mac_tile(m, t0, n_real, b, codec, n_row, 1, true);
}

/* At most SHOAL__FEW_ROWS rows, rounded up to 1, 2, 4 or 8. */
SHOAL_INLINE void mac(const shoal__product *m, const shoal__codec codec)
{
    const int32_t wide = SHOAL_LANES == 16;
    if (m->n_row == 1)
        mac_rows(m, 0, 1, codec, 1, wide || SHOAL_LANES == 8 ? 4 : 2);
    else if (m->n_row == 2)
        mac_rows(m, 0, 2, codec, 2, wide ? 4 : SHOAL_LANES == 8 ? 2 : 1);
    else if (m->n_row <= 4)
        mac_rows(m, 0, m->n_row, codec, 4, wide ? 4 : 1);
    else if (SHOAL__FEW_ROWS > 4)
        mac_rows(m, 0, m->n_row, codec, 8, 2);
}

/* Functions of their own, as one of all would have too many loops to hold each in registers. */
static __attribute__((noinline)) void mac_f32(const shoal__product *m)
{
    mac(m, SHOAL__F32);
}

static __attribute__((noinline)) void mac_bf16(const shoal__product *m)
{
    mac(m, SHOAL__BF16);
}

/* Few rows. */
static void shoal__mac_few(const shoal__product *m, shoal_kv_dtype dtype)
{
    if (dtype == SHOAL_KV_F32)
        mac_f32(m);
    else
        mac_bf16(m);
}

static size_t shoal__element_bytes(shoal_kv_dtype dtype)
{
    return dtype == SHOAL_KV_F32 ? sizeof(float) : sizeof(uint16_t);
}

static float shoal__element(const unsigned char *at, shoal_kv_dtype dtype)
{
    float f32;
    uint16_t bf16;
    if (dtype == SHOAL_KV_F32) {
        memcpy(&f32, at, sizeof f32);
        return f32;
    }
    memcpy(&bf16, at, sizeof bf16);
    return shoal__from_bf16(bf16);
}

/* panel [n, SHOAL__PANEL_WIDTH] = columns [k0, k0 + n) of bands [b0, b0 + n_band) as f32; what lies
 * at these places behind m->next is asked for. */
SHOAL_INLINE void fill_panel(float *panel, const shoal__product *m, int32_t k0, int32_t n,
                             int32_t b0, int32_t n_band, const shoal__codec codec)
{
    const size_t step = shoal__step_bytes(codec);
    for (int32_t k = 0; k < n; k++) {
        const unsigned char *column =
            m->w + (size_t)(k0 + k) * m->step_bytes + (size_t)b0 * m->band_bytes;
        const unsigned char *next = m->next + ((size_t)b0 * (size_t)m->n + (size_t)(k0 + k)) * step;
        for (int32_t b = 0; b < n_band; b++) {
            shoal__vec v[SHOAL_PARTS];
            __builtin_prefetch(next + (size_t)b * (size_t)m->n * step, 0, 2);
            shoal__decode(v, codec, column + (size_t)b * m->band_bytes, 0);
#pragma GCC unroll 4
            for (int32_t p = 0; p < SHOAL_PARTS; p++)
                shoal__vec_store(panel + k * SHOAL__PANEL_WIDTH + b * SHOAL_BAND + p * SHOAL_LANES,
                                 v[p]);
        }
    }
}

static __attribute__((noinline)) void shoal__fill_panel(float *panel, const shoal__product *m,
                                                        int32_t k0, int32_t n, int32_t b0,
                                                        int32_t n_band, shoal_kv_dtype dtype)
{
    if (dtype == SHOAL_KV_F32)
        fill_panel(panel, m, k0, n, b0, n_band, SHOAL__F32);
    else
        fill_panel(panel, m, k0, n, b0, n_band, SHOAL__BF16);
}

/* Of n_row rows over the n columns of a panel that begin at `panel`. */
static shoal__product shoal__over_panel(const float *panel, int32_t n, int32_t n_row)
{
    return (shoal__product){.w = (const unsigned char *)panel,
                            .step_bytes = SHOAL__PANEL_WIDTH * sizeof(float),
                            .band_bytes = SHOAL_BAND * sizeof(float),
                            .n = n,
                            .n_row = n_row};
}

SHOAL_INLINE void mac_panel_bands(const shoal__product *m, int32_t b, const int32_t n_band)
{
    if (m->n_row > 4)
        mac_tile(m, 0, m->n_row, b, SHOAL__F32, SHOAL__PANEL_ROWS, n_band, false);
    else if (m->n_row > 2)
        mac_tile(m, 0, m->n_row, b, SHOAL__F32, 4, n_band, false);
    else
        mac_tile(m, 0, m->n_row, b, SHOAL__F32, 2, n_band, false);
}

/* At most SHOAL__PANEL_ROWS rows over columns of a panel. */
static __attribute__((noinline)) void shoal__mac_panel(const shoal__product *m)
{
    const int32_t n_band = SHOAL_LANES == 16 ? SHOAL__PANEL_BANDS : 1;
    int32_t b = 0;
    for (; b + n_band <= m->n_band; b += n_band)
        mac_panel_bands(m, b, n_band);
    for (; b < m->n_band; b++)
        mac_panel_bands(m, b, 1);
}

#endif
