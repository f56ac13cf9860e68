/* y = x W^T with integers: quantised weights, int8 activations. The weights of a group are unpacked
 * to registers once and used for a block of tokens whose sums stay in registers: one group is read
 * after the other, which is one stream of memory over all bands of a call. */
#include "runtime/kernels/cpu/dot.h"

enum {
    BLOCK = SHOAL_LANES == 16 ? 8 : 4, /* tokens that use an unpacked group */
    AHEAD = 4096,                      /* bytes: weights are asked for this early, ... */
    BUSY = SHOAL_LANES == 16 ? 6 : 3,  /* from so many tokens on: below, the CPU's own prefetcher
                                          keeps up, and requests only take its bandwidth */
    LINE = 64,
};

/* One band for up to BLOCK tokens. */
typedef struct block {
    float *y;
    int64_t ld_y;
    const unsigned char *w; /* the band */
    const shoal_int8_group *x;
    int64_t ld_x;
    int64_t n_group;
    bool ahead; /* weights are asked for early */
} block;

SHOAL_INLINE void prefetch(const unsigned char *at, const size_t n_bytes)
{
#pragma GCC unroll 9
    for (size_t i = 0; i < n_bytes; i += LINE)
        __builtin_prefetch(at + i);
}

/* The rows of n_part registers from part p0 on. */
SHOAL_INLINE void block_parts(const block *b, int32_t p0, const shoal_format format,
                              const int32_t n_token, const int32_t n_part)
{
    const size_t group_bytes = shoal__group_bytes(format);
    const unsigned char *at = b->w;
    const shoal_int8_group *x[BLOCK];
    shoal__vec acc[BLOCK][SHOAL_PARTS];
#pragma GCC unroll 16
    for (int32_t t = 0; t < n_token; t++) {
        x[t] = b->x + t * b->ld_x;
#pragma GCC unroll 4
        for (int32_t p = 0; p < n_part; p++)
            acc[t][p] = (shoal__vec){0};
    }
    for (int64_t g = 0; g < b->n_group; g++, at += group_bytes) {
        if (b->ahead && p0 == 0)
            prefetch(at + AHEAD, group_bytes);
#pragma GCC unroll 4
        for (int32_t p = 0; p < n_part; p++) {
            shoal__quads w[SHOAL__QUADS];
            shoal__unpack(w, at + shoal__group_scale_bytes(format), p0 + p, format);
            shoal__vec scale = shoal__group_scale(at, p0 + p, format);
#pragma GCC unroll 16
            for (int32_t t0 = 0; t0 < n_token; t0 += SHOAL__TOGETHER) {
                const int32_t n = n_token - t0 < SHOAL__TOGETHER ? n_token - t0 : SHOAL__TOGETHER;
                shoal__ints sum[SHOAL__TOGETHER];
                shoal__dots(sum, w, x + t0, n, format);
#pragma GCC unroll 16
                for (int32_t i = 0; i < n; i++)
                    acc[t0 + i][p] = shoal__vec_fma_each(shoal__ints_to_f32(sum[i]),
                                                         scale * x[t0 + i]->scale, acc[t0 + i][p]);
            }
        }
#pragma GCC unroll 16
        for (int32_t t = 0; t < n_token; t++)
            x[t]++;
    }
#pragma GCC unroll 16
    for (int32_t t = 0; t < n_token; t++) {
#pragma GCC unroll 4
        for (int32_t p = 0; p < n_part; p++)
            shoal__vec_store(b->y + t * b->ld_y + (p0 + p) * SHOAL_LANES, acc[t][p]);
    }
}

/* A pass over the band for each part, if the sums of all and the weights of one do not fit the
 * registers together: after the first the band is in the L1. */
SHOAL_INLINE void block_sums(const block *b, const shoal_format format, const int32_t n_token)
{
    const int32_t n_part = n_token * SHOAL_PARTS <= BLOCK ? SHOAL_PARTS : 1;
    for (int32_t p = 0; p < SHOAL_PARTS; p += n_part)
        block_parts(b, p, format, n_token, n_part);
}

/* A function of its own for every number of tokens, as one of all would have too many loops to hold
 * each in registers. */
#define BLOCK_OF(format, n)                                                                        \
    static void format##_##n(const block *b)                                                       \
    {                                                                                              \
        block_sums(b, SHOAL_FORMAT_##format, n);                                                   \
    }
#define EACH_4(X, f) X(f, 1) X(f, 2) X(f, 3) X(f, 4)
#if SHOAL_LANES == 16
#define EACH(X, f) EACH_4(X, f) X(f, 5) X(f, 6) X(f, 7) X(f, 8)
#else
#define EACH(X, f) EACH_4(X, f)
#endif
EACH(BLOCK_OF, Q8)
EACH(BLOCK_OF, Q4)
EACH(BLOCK_OF, MXFP4)

#define ENTRY(format, n) [n] = format##_##n,
static void (*const block_of[SHOAL_N_FORMAT][BLOCK + 1])(const block *b) = {
    [SHOAL_FORMAT_Q8] = {EACH(ENTRY, Q8)},
    [SHOAL_FORMAT_Q4] = {EACH(ENTRY, Q4)},
    [SHOAL_FORMAT_MXFP4] = {EACH(ENTRY, MXFP4)},
};

/* A band for all tokens in n_block blocks, the first n_large of one token more than the others. b
 * is the first and is moved on. */
static void run_band(block *b, const shoal_format format, int32_t n_block, int32_t n_small,
                     int32_t n_large)
{
    for (int32_t i = 0; i < n_block; i++) {
        int32_t n = i < n_large ? n_small + 1 : n_small;
        block_of[format][n](b);
        b->x += n * b->ld_x;
        b->y += n * b->ld_y;
    }
}

/* The same for a last band of fewer rows: a block at a time by way of a place that has 16. */
static void run_short_band(block *b, const shoal_format format, int32_t n_token, int32_t n_row)
{
    _Alignas(64) float some[BLOCK][SHOAL_BAND];
    float *y = b->y;
    int64_t ld_y = b->ld_y;
    b->y = some[0];
    b->ld_y = SHOAL_BAND;
    for (int32_t t0 = 0; t0 < n_token; t0 += BLOCK, b->x += BLOCK * b->ld_x) {
        int32_t n = n_token - t0 < BLOCK ? n_token - t0 : BLOCK;
        block_of[format][n](b);
        for (int32_t t = 0; t < n; t++)
            memcpy(y + (t0 + t) * ld_y, some[t], (size_t)n_row * sizeof(float));
    }
}

void SHOAL_FN(matmul_int8)(float *y, int64_t ld_y, const shoal_matrix *w, int32_t band0,
                           int32_t band1, const shoal_int8_group *x, int64_t ld_x, int32_t n_token)
{
    if (n_token < 1)
        return;
    int64_t n_group = ((int64_t)w->n_col + SHOAL_GROUP - 1) / SHOAL_GROUP;
    size_t band_bytes = (size_t)n_group * shoal__group_bytes(w->format);
    /* Of nearly equal size: a last block of one token would unpack the weights for it alone. */
    int32_t n_block = (n_token + BLOCK - 1) / BLOCK;
    int32_t n_small = n_token / n_block;
    int32_t n_large = n_token % n_block;
    bool ahead = n_token >= BUSY || !shoal__prefetches_well();
    for (int32_t band = band0; band < band1; band++) {
        block b = {.y = y + (int64_t)band * SHOAL_BAND,
                   .ld_y = ld_y,
                   .w = (const unsigned char *)w->data + (size_t)band * band_bytes,
                   .x = x,
                   .ld_x = ld_x,
                   .n_group = n_group,
                   .ahead = ahead};
        int32_t n_row = w->n_row - band * SHOAL_BAND;
        if (n_row >= SHOAL_BAND)
            run_band(&b, w->format, n_block, n_small, n_large);
        else
            run_short_band(&b, w->format, n_token, n_row);
    }
}
