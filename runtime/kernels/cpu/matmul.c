/* y = x W^T over one layout for all formats. Few tokens (decoding): several bands at a time, as one
 * chain of fma per band would wait for itself, weights decoded in registers. Many tokens: weights
 * are decoded once per block of columns and then used for every token of a group. Each output is
 * the same sum in the same order either way. */
#include "runtime/kernels/cpu/decode.h"
#include "runtime/kernels/cpu/scalar.h"

enum {
    BLOCK = SHOAL_FP8_BLOCK, /* columns decoded at a time: 8 KiB of f32, half of an L1 */
    GROUP = 32,              /* tokens that use a decoded block */
    AHEAD = 2048,            /* bytes: a single stream of weights is asked for this early */
    CHAINS = 4,              /* sums of a register's width that hide the latency of fma */
};

SHOAL_INLINE bool in_quads(const shoal_format format)
{
    return format == SHOAL_FORMAT_Q8 || format == SHOAL_FORMAT_Q4 || format == SHOAL_FORMAT_MXFP4;
}

/* Columns that are summed on their own before their scale is applied; 0: the format has none. */
SHOAL_INLINE int32_t scale_group(const shoal_format format)
{
    return format == SHOAL_FORMAT_FP8_BLOCK ? SHOAL_FP8_BLOCK : in_quads(format) ? SHOAL_GROUP : 0;
}

/* Column c of a band; in quads, the group of columns that begins at c. */
SHOAL_INLINE const unsigned char *band_at(const shoal_matrix *w, int32_t band, int32_t c,
                                          const shoal_format format)
{
    const unsigned char *data = w->data;
    size_t n_col = (size_t)w->n_col;
    if (in_quads(format)) {
        size_t n_group = (n_col + SHOAL_GROUP - 1) / SHOAL_GROUP;
        return data +
               ((size_t)band * n_group + (size_t)c / SHOAL_GROUP) * shoal__group_bytes(format);
    }
    size_t bytes = format == SHOAL_FORMAT_F32 ? 4 : format == SHOAL_FORMAT_FP8_BLOCK ? 1 : 2;
    return data + ((size_t)band * n_col + (size_t)c) * SHOAL_BAND * bytes;
}

/* The scales of 16 rows for the group of columns at c0, lanes from l on. */
SHOAL_INLINE shoal__vec scales_at(const shoal_matrix *w, int32_t band, int32_t c0, int32_t l,
                                  const shoal_format format)
{
    if (format == SHOAL_FORMAT_MXFP4)
        return shoal__load_e8m0(band_at(w, band, c0, format) + l);
    if (in_quads(format))
        return shoal__load_f16(band_at(w, band, c0, format) + (size_t)l * sizeof(uint16_t));
    size_t n_block = ((size_t)w->n_col + SHOAL_FP8_BLOCK - 1) / SHOAL_FP8_BLOCK;
    size_t row = (size_t)(band / (SHOAL_FP8_BLOCK / SHOAL_BAND));
    return w->scale[row * n_block + (size_t)(c0 / SHOAL_FP8_BLOCK)] + (shoal__vec){0};
}

/* acc += scale * sum for the rows of a band, over the group of columns at c0. sum, acc: [n][16]. */
SHOAL_INLINE void add_scaled(float (*acc)[SHOAL_BAND], float (*sum)[SHOAL_BAND], int32_t n,
                             const shoal_matrix *w, int32_t band, int32_t c0,
                             const shoal_format format)
{
    for (int32_t l = 0; l < SHOAL_BAND; l += SHOAL_LANES) {
        shoal__vec scale = scales_at(w, band, c0, l, format);
        for (int32_t t = 0; t < n; t++) {
            shoal__vec part = shoal__vec_fma_each(scale, shoal__vec_load(sum[t] + l),
                                                  shoal__vec_load(acc[t] + l));
            shoal__vec_store(acc[t] + l, part);
        }
    }
}

/* sum [n_band * n_token][16] += n columns of bands that lie band_bytes apart. The constant n_band *
 * n_token is at most 8. */
SHOAL_INLINE void mac_packed(float (*sum)[SHOAL_BAND], const unsigned char *w, size_t band_bytes,
                             const shoal__codec codec, const float *const *x, int32_t n,
                             const int32_t n_band, const int32_t n_token)
{
    const size_t bytes = shoal__codec_bytes(codec);
    shoal__vec s[8][SHOAL_PARTS];
#pragma GCC unroll 8
    for (int32_t i = 0; i < n_band * n_token; i++) {
#pragma GCC unroll 4
        for (int32_t p = 0; p < SHOAL_PARTS; p++)
            s[i][p] = shoal__vec_load(sum[i] + p * SHOAL_LANES);
    }
    for (int32_t k = 0; k < n; k++) {
#pragma GCC unroll 4
        for (int32_t b = 0; b < n_band; b++) {
            const unsigned char *at = w + (size_t)b * band_bytes + (size_t)k * SHOAL_BAND * bytes;
            if (n_band == 1)
                __builtin_prefetch(at + AHEAD);
#pragma GCC unroll 4
            for (int32_t p = 0; p < SHOAL_PARTS; p++) {
                shoal__vec v = shoal__decode(codec, at + (size_t)(p * SHOAL_LANES) * bytes);
#pragma GCC unroll 8
                for (int32_t t = 0; t < n_token; t++)
                    s[b * n_token + t][p] = shoal__vec_fma(x[t][k], v, s[b * n_token + t][p]);
            }
        }
    }
#pragma GCC unroll 8
    for (int32_t i = 0; i < n_band * n_token; i++) {
#pragma GCC unroll 4
        for (int32_t p = 0; p < SHOAL_PARTS; p++)
            shoal__vec_store(sum[i] + p * SHOAL_LANES, s[i][p]);
    }
}

/* The same for n_quad quads, whose columns lie in the order of x. */
SHOAL_INLINE void mac_quads(float (*sum)[SHOAL_BAND], const unsigned char *w, size_t band_bytes,
                            const shoal__codec codec, const float *const *x, const int32_t n_quad,
                            const int32_t n_band, const int32_t n_token)
{
    shoal__vec s[8][SHOAL_PARTS];
#pragma GCC unroll 8
    for (int32_t i = 0; i < n_band * n_token; i++) {
#pragma GCC unroll 4
        for (int32_t p = 0; p < SHOAL_PARTS; p++)
            s[i][p] = shoal__vec_load(sum[i] + p * SHOAL_LANES);
    }
    for (int32_t q = 0; q < n_quad; q++) {
#pragma GCC unroll 4
        for (int32_t b = 0; b < n_band; b++) {
            const unsigned char *at = w + (size_t)b * band_bytes + (size_t)q * 4 * SHOAL_BAND;
            if (n_band == 1)
                __builtin_prefetch(at + AHEAD);
#pragma GCC unroll 4
            for (int32_t p = 0; p < SHOAL_PARTS; p++) {
                shoal__u32 quad = shoal__load_quad(at + (size_t)p * 4 * SHOAL_LANES);
#pragma GCC unroll 4
                for (int32_t j = 0; j < 4; j++) {
                    shoal__vec v = shoal__decode_quad(codec, quad, j);
#pragma GCC unroll 8
                    for (int32_t t = 0; t < n_token; t++)
                        s[b * n_token + t][p] =
                            shoal__vec_fma(x[t][4 * q + j], v, s[b * n_token + t][p]);
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int32_t i = 0; i < n_band * n_token; i++) {
#pragma GCC unroll 4
        for (int32_t p = 0; p < SHOAL_PARTS; p++)
            shoal__vec_store(sum[i] + p * SHOAL_LANES, s[i][p]);
    }
}

SHOAL_INLINE void decode_quads(float *tile, const unsigned char *w, const shoal__codec codec,
                               const int32_t n_quad)
{
    for (int32_t q = 0; q < n_quad; q++) {
        for (int32_t l = 0; l < SHOAL_BAND; l += SHOAL_LANES) {
            shoal__u32 quad = shoal__load_quad(w + ((size_t)q * SHOAL_BAND + (size_t)l) * 4);
#pragma GCC unroll 4
            for (int32_t j = 0; j < 4; j++)
                shoal__vec_store(tile + (q * 4 + j) * SHOAL_BAND + l,
                                 shoal__decode_quad(codec, quad, j));
        }
    }
}

/* A group in quads as a tile [32][16]. */
SHOAL_INLINE void decode_group(float *tile, const unsigned char *quads, const shoal_format format)
{
    if (format == SHOAL_FORMAT_Q8) {
        decode_quads(tile, quads, SHOAL__INT8, 8);
        return;
    }
    const bool q4 = format == SHOAL_FORMAT_Q4;
    decode_quads(tile, quads, q4 ? SHOAL__INT4_LOW : SHOAL__E2M1_LOW, 4);
    decode_quads(tile + SHOAL_GROUP / 2 * SHOAL_BAND, quads,
                 q4 ? SHOAL__INT4_HIGH : SHOAL__E2M1_HIGH, 4);
}

/* One group of n_band bands in quads; the last group of a row may have n < 32 columns. */
SHOAL_INLINE void mac_group(float (*sum)[SHOAL_BAND], const unsigned char *quads, size_t band_bytes,
                            const float *const *x, int32_t n, const shoal_format format,
                            const int32_t n_band, const int32_t n_token)
{
    if (n < SHOAL_GROUP) {
        _Alignas(64) float tile[SHOAL_GROUP * SHOAL_BAND];
        for (int32_t b = 0; b < n_band; b++) {
            decode_group(tile, quads + (size_t)b * band_bytes, format);
            mac_packed(sum + b * n_token, (const unsigned char *)tile, 0, SHOAL__F32, x, n, 1,
                       n_token);
        }
        return;
    }
    if (format == SHOAL_FORMAT_Q8) {
        mac_quads(sum, quads, band_bytes, SHOAL__INT8, x, 8, n_band, n_token);
        return;
    }
    const bool q4 = format == SHOAL_FORMAT_Q4;
    const float *high[8];
    for (int32_t t = 0; t < n_token; t++)
        high[t] = x[t] + SHOAL_GROUP / 2;
    mac_quads(sum, quads, band_bytes, q4 ? SHOAL__INT4_LOW : SHOAL__E2M1_LOW, x, 4, n_band,
              n_token);
    mac_quads(sum, quads, band_bytes, q4 ? SHOAL__INT4_HIGH : SHOAL__E2M1_HIGH, high, 4, n_band,
              n_token);
}

/* n_band bands from `band` for n_token rows of x, sums into acc [n_band * n_token][16]. */
SHOAL_INLINE void few_sums(float (*acc)[SHOAL_BAND], const shoal_matrix *w, int32_t band,
                           const float *const *x, const shoal_format format,
                           const shoal__codec codec, const int32_t n_band, const int32_t n_token)
{
    const size_t band_bytes = (size_t)(band_at(w, 1, 0, format) - band_at(w, 0, 0, format));
    const int32_t group = scale_group(format);
    memset(acc, 0, (size_t)(n_band * n_token) * sizeof *acc);
    if (group == 0) {
        mac_packed(acc, band_at(w, band, 0, format), band_bytes, codec, x, w->n_col, n_band,
                   n_token);
        return;
    }
    for (int32_t c0 = 0; c0 < w->n_col; c0 += group) {
        _Alignas(64) float sum[8][SHOAL_BAND];
        const unsigned char *at = band_at(w, band, c0, format);
        int32_t n = w->n_col - c0 < group ? w->n_col - c0 : group;
        const float *x0[8];
        for (int32_t t = 0; t < n_token; t++)
            x0[t] = x[t] + c0;
        memset(sum, 0, (size_t)(n_band * n_token) * sizeof *sum);
        if (in_quads(format))
            mac_group(sum, at + shoal__group_scale_bytes(format), band_bytes, x0, n, format, n_band,
                      n_token);
        else
            mac_packed(sum, at, band_bytes, codec, x0, n, n_band, n_token);
        for (int32_t b = 0; b < n_band; b++)
            add_scaled(acc + b * n_token, sum + b * n_token, n_token, w, band + b, c0, format);
    }
}

/* What a call for few tokens works on. */
typedef struct few {
    float *y;
    int64_t ld_y;
    const shoal_matrix *w;
    const float *x[8]; /* rows; those from n_token on repeat the last */
    int32_t n_token;
} few;

SHOAL_INLINE int32_t few_bands(const few *f, int32_t band, int32_t band1, const shoal_format format,
                               const shoal__codec codec, const int32_t n_band,
                               const int32_t n_token)
{
    _Alignas(64) float acc[8][SHOAL_BAND];
    for (; band + n_band <= band1; band += n_band) {
        few_sums(acc, f->w, band, f->x, format, codec, n_band, n_token);
        for (int32_t b = 0; b < n_band; b++) {
            int32_t row0 = (band + b) * SHOAL_BAND;
            int32_t n_row = f->w->n_row - row0 < SHOAL_BAND ? f->w->n_row - row0 : SHOAL_BAND;
            for (int32_t t = 0; t < f->n_token; t++)
                memcpy(f->y + t * f->ld_y + row0, acc[b * n_token + t],
                       (size_t)n_row * sizeof(float));
        }
    }
    return band;
}

/* The number of tokens is rounded up, so that a weight is decoded once for all: to 4 or 8, for
 * which one band is chains enough, or for few enough by working on several bands. */
SHOAL_INLINE void few_tokens(const few *f, int32_t band, int32_t band1, const shoal_format format,
                             const shoal__codec codec)
{
    if (f->n_token == 1)
        band = few_bands(f, band, band1, format, codec, CHAINS, 1);
    else if (f->n_token == 2)
        band = few_bands(f, band, band1, format, codec, CHAINS / 2, 2);
    if (SHOAL_TOKENS > 4 && f->n_token > 4)
        (void)few_bands(f, band, band1, format, codec, 1, 8);
    else
        (void)few_bands(f, band, band1, format, codec, 1, 4);
}

#define FEW_OF(name, format, codec)                                                                \
    static void name(const few *f, int32_t band0, int32_t band1)                                   \
    {                                                                                              \
        few_tokens(f, band0, band1, format, codec);                                                \
    }
FEW_OF(few_f32, SHOAL_FORMAT_F32, SHOAL__F32)
FEW_OF(few_f16, SHOAL_FORMAT_F16, SHOAL__F16)
FEW_OF(few_bf16, SHOAL_FORMAT_BF16, SHOAL__BF16)
FEW_OF(few_fp8, SHOAL_FORMAT_FP8_BLOCK, SHOAL__E4M3)
FEW_OF(few_mxfp4, SHOAL_FORMAT_MXFP4, SHOAL__E2M1_LOW) /* and _HIGH */
FEW_OF(few_q8, SHOAL_FORMAT_Q8, SHOAL__INT8)
FEW_OF(few_q4, SHOAL_FORMAT_Q4, SHOAL__INT4_LOW)

/* Functions of their own, as one of all would have too many loops to hold each in registers. */
static void (*const few_of[SHOAL_N_FORMAT])(const few *f, int32_t band0, int32_t band1) = {
    [SHOAL_FORMAT_F32] = few_f32,     [SHOAL_FORMAT_F16] = few_f16,
    [SHOAL_FORMAT_BF16] = few_bf16,   [SHOAL_FORMAT_FP8_BLOCK] = few_fp8,
    [SHOAL_FORMAT_MXFP4] = few_mxfp4, [SHOAL_FORMAT_Q8] = few_q8,
    [SHOAL_FORMAT_Q4] = few_q4,
};

static void decode_block(float *tile, const unsigned char *w, int32_t n, const shoal__codec codec)
{
    for (int32_t i = 0; i < n * SHOAL_BAND; i += SHOAL_LANES)
        shoal__vec_store(tile + i, shoal__decode(codec, w + (size_t)i * shoal__codec_bytes(codec)));
}

/* n columns from column c0 of a band, [n][16] f32; `tile` is the room for them if they must be
 * decoded. */
static const float *block_at(float *tile, const shoal_matrix *w, int32_t band, int32_t c0,
                             int32_t n)
{
    const unsigned char *at = band_at(w, band, c0, w->format);
    switch (w->format) {
    case SHOAL_FORMAT_F32:
        return (const float *)(const void *)at;
    case SHOAL_FORMAT_F16:
        decode_block(tile, at, n, SHOAL__F16);
        break;
    case SHOAL_FORMAT_BF16:
        decode_block(tile, at, n, SHOAL__BF16);
        break;
    case SHOAL_FORMAT_FP8_BLOCK:
        decode_block(tile, at, n, SHOAL__E4M3);
        break;
    case SHOAL_FORMAT_MXFP4:
        decode_group(tile, at + shoal__group_scale_bytes(SHOAL_FORMAT_MXFP4), SHOAL_FORMAT_MXFP4);
        break;
    case SHOAL_FORMAT_Q8:
        decode_group(tile, at + shoal__group_scale_bytes(SHOAL_FORMAT_Q8), SHOAL_FORMAT_Q8);
        break;
    case SHOAL_FORMAT_Q4:
        decode_group(tile, at + shoal__group_scale_bytes(SHOAL_FORMAT_Q4), SHOAL_FORMAT_Q4);
        break;
    case SHOAL_N_FORMAT:
        break;
    }
    return tile;
}

/* Into the L2: the next block while this one is used for all tokens. What lies behind the last
 * block is usually the next band. */
static void prefetch(const unsigned char *w, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes; i += 64)
        __builtin_prefetch(w + i, 0, 2);
}

/* One band for at most GROUP tokens, into acc [n_token][16]. */
static void band_sums(float acc[GROUP][SHOAL_BAND], const shoal_matrix *w, int32_t band,
                      const float *x, int64_t ld_x, int32_t n_token)
{
    _Alignas(64) float tile[BLOCK * SHOAL_BAND];
    _Alignas(64) float sum[GROUP][SHOAL_BAND];
    size_t acc_bytes = (size_t)n_token * sizeof acc[0];
    memset(acc, 0, acc_bytes);
    int32_t group = scale_group(w->format);
    int32_t block = group > 0 ? group : BLOCK;
    size_t block_bytes = (size_t)(band_at(w, 0, block, w->format) - band_at(w, 0, 0, w->format));
    for (int32_t c0 = 0; c0 < w->n_col; c0 += block) {
        int32_t n = w->n_col - c0 < block ? w->n_col - c0 : block;
        const float *weights = block_at(tile, w, band, c0, n);
        prefetch(band_at(w, band, c0, w->format) + block_bytes, block_bytes);
        if (group == 0) {
            shoal__mac(acc[0], SHOAL_BAND, x + c0, ld_x, weights, SHOAL_BAND, n, n_token);
            continue;
        }
        memset(sum, 0, acc_bytes);
        shoal__mac(sum[0], SHOAL_BAND, x + c0, ld_x, weights, SHOAL_BAND, n, n_token);
        add_scaled(acc, sum, n_token, w, band, c0, w->format);
    }
}

static void many_tokens(float *y, int64_t ld_y, const shoal_matrix *w, int32_t band0, int32_t band1,
                        const float *x, int64_t ld_x, int32_t n_token)
{
    _Alignas(64) float acc[GROUP][SHOAL_BAND];
    for (int32_t band = band0; band < band1; band++) {
        int32_t row0 = band * SHOAL_BAND;
        int32_t n_row = w->n_row - row0 < SHOAL_BAND ? w->n_row - row0 : SHOAL_BAND;
        for (int32_t t0 = 0; t0 < n_token; t0 += GROUP) {
            int32_t n = n_token - t0 < GROUP ? n_token - t0 : GROUP;
            band_sums(acc, w, band, x + t0 * ld_x, ld_x, n);
            for (int32_t t = 0; t < n; t++)
                memcpy(y + (t0 + t) * ld_y + row0, acc[t], (size_t)n_row * sizeof(float));
        }
    }
}

void SHOAL_FN(matmul)(float *y, int64_t ld_y, const shoal_matrix *w, int32_t band0, int32_t band1,
                      const float *x, int64_t ld_x, int32_t n_token)
{
    if (n_token < 1)
        return;
    /* Few registers: one band has chains enough for them. */
    if (n_token > SHOAL_TOKENS || SHOAL_TOKENS < 4) {
        many_tokens(y, ld_y, w, band0, band1, x, ld_x, n_token);
        return;
    }
    few f = {.y = y, .ld_y = ld_y, .w = w, .n_token = n_token};
    for (int32_t t = 0; t < 8; t++)
        f.x[t] = x + (t < n_token ? t : n_token - 1) * ld_x;
    few_of[w->format](&f, band0, band1);
}
