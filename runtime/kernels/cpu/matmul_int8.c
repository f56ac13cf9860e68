/* y = x W^T with integers: quantised weights, int8 activations. The weights of a group are unpacked
 * to registers once and used for a block of tokens whose sums stay in registers: one group is read
 * after the other, which is one stream of memory over all bands of a call. */
#include "runtime/kernels/cpu/dot.h"

enum {
    BLOCK = SHOAL_LANES == 16 ? 16 : 4, /* tokens that use an unpacked group */
    AHEAD = 2048,                       /* bytes: weights are asked for this early */
    LINE = 64,
};

/* What a call works on. */
typedef struct product {
    float *y;
    int64_t ld_y;
    const shoal_matrix *w;
    const shoal_int8_group *x;
    int64_t ld_x;
} product;

/* The outputs of one token that the last band has. Apart, as it is rare. */
static __attribute__((noinline)) void store_some(float *y, const float *rows, int32_t n_row)
{
    memcpy(y, rows, (size_t)n_row * sizeof *y);
}

SHOAL_INLINE void store_band(float *y, const shoal__vec acc[SHOAL_PARTS], int32_t n_row)
{
    float some[SHOAL_BAND];
    float *to = n_row < SHOAL_BAND ? some : y;
#pragma GCC unroll 4
    for (int32_t p = 0; p < SHOAL_PARTS; p++)
        shoal__vec_store(to + p * SHOAL_LANES, acc[p]);
    if (n_row < SHOAL_BAND)
        store_some(y, some, n_row);
}

/* One band for n_token <= BLOCK tokens from t0 on. */
SHOAL_INLINE void band_block(const product *m, int32_t band, int32_t t0, const shoal_format format,
                             const int32_t n_token)
{
    const size_t group_bytes = shoal__group_bytes(format);
    const int64_t n_group = ((int64_t)m->w->n_col + SHOAL_GROUP - 1) / SHOAL_GROUP;
    const unsigned char *at =
        (const unsigned char *)m->w->data + (size_t)(band * n_group) * group_bytes;
    const shoal_int8_group *x[BLOCK];
    shoal__vec acc[BLOCK][SHOAL_PARTS];
#pragma GCC unroll 16
    for (int32_t t = 0; t < n_token; t++) {
        x[t] = m->x + (t0 + t) * m->ld_x;
#pragma GCC unroll 4
        for (int32_t p = 0; p < SHOAL_PARTS; p++)
            acc[t][p] = (shoal__vec){0};
    }
    for (int64_t g = 0; g < n_group; g++, at += group_bytes) {
#pragma GCC unroll 9
        for (size_t i = 0; i < group_bytes; i += LINE)
            __builtin_prefetch(at + AHEAD + i);
#pragma GCC unroll 4
        for (int32_t p = 0; p < SHOAL_PARTS; p++) {
            shoal__quads w[SHOAL__QUADS];
            shoal__unpack(w, at + shoal__group_scale_bytes(format), p, format);
            shoal__vec scale = shoal__group_scale(at, p, format);
#pragma GCC unroll 16
            for (int32_t t = 0; t < n_token; t++) {
                shoal__vec part = shoal__ints_to_f32(shoal__dot(w, x[t] + g, format));
                acc[t][p] = shoal__vec_fma_each(part, scale * x[t][g].scale, acc[t][p]);
            }
        }
    }
    int32_t row0 = band * SHOAL_BAND;
#pragma GCC unroll 16
    for (int32_t t = 0; t < n_token; t++)
        store_band(m->y + (t0 + t) * m->ld_y + row0, acc[t], m->w->n_row - row0);
}

/* A function of its own for every number of tokens, as one of all would have too many loops to hold
 * each in registers. */
#define BLOCK_OF(format, n)                                                                        \
    static void format##_##n(const product *m, int32_t band, int32_t t0)                           \
    {                                                                                              \
        band_block(m, band, t0, SHOAL_FORMAT_##format, n);                                         \
    }
#if SHOAL_LANES == 16
#define EACH(X, f)                                                                                 \
    X(f, 1)                                                                                        \
    X(f, 2)                                                                                        \
    X(f, 3)                                                                                        \
    X(f, 4) X(f, 5) X(f, 6) X(f, 7) X(f, 8) X(f, 9) X(f, 10) X(f, 11) X(f, 12) X(f, 13) X(f, 14)   \
        X(f, 15) X(f, 16)
#else
#define EACH(X, f) X(f, 1) X(f, 2) X(f, 3) X(f, 4)
#endif
EACH(BLOCK_OF, Q8)
EACH(BLOCK_OF, Q4)
EACH(BLOCK_OF, MXFP4)

typedef void block_fn(const product *m, int32_t band, int32_t t0);

#define ENTRY(format, n) [n] = format##_##n,
static block_fn *const block_of[SHOAL_N_FORMAT][BLOCK + 1] = {
    [SHOAL_FORMAT_Q8] = {EACH(ENTRY, Q8)},
    [SHOAL_FORMAT_Q4] = {EACH(ENTRY, Q4)},
    [SHOAL_FORMAT_MXFP4] = {EACH(ENTRY, MXFP4)},
};

/* Tokens in blocks of nearly equal size: a last block of one would unpack the weights for it alone.
 */
void SHOAL_FN(matmul_int8)(float *y, int64_t ld_y, const shoal_matrix *w, int32_t band0,
                           int32_t band1, const shoal_int8_group *x, int64_t ld_x, int32_t n_token)
{
    if (n_token < 1)
        return;
    product m = {.y = y, .ld_y = ld_y, .w = w, .x = x, .ld_x = ld_x};
    int32_t n_block = (n_token + BLOCK - 1) / BLOCK;
    int32_t small = n_token / n_block;
    int32_t n_large = n_token % n_block;
    for (int32_t band = band0; band < band1; band++) {
        int32_t t0 = 0;
        for (int32_t b = 0; b < n_block; b++) {
            int32_t n = b < n_large ? small + 1 : small;
            block_of[w->format][n](&m, band, t0);
            t0 += n;
        }
    }
}
