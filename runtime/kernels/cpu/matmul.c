/* y = x W^T over one layout for all formats. Weights are decoded in registers, each time for a few
 * tokens and bands: enough sums to hide the latency of fma, and enough tokens that decoding goes on
 * beside them in execution units of its own. Each output is the same sum in the same order whatever
 * the pass. */
#include "runtime/kernels/cpu/decode.h"
#include "runtime/kernels/cpu/scalar.h"

enum {
    TOKENS = SHOAL_LANES == 16 ? 8 : 4, /* of a pass, at most */
    SUMS = TOKENS,                      /* of a pass, of 16 rows each; registers hold them all */
    BANDS = 4,                          /* of a pass, at most: more streams collide in an L1 */
    AHEAD = 2048,                       /* bytes: a stream of weights is asked for this early */
};

/* Bands of a pass with n_token tokens: about four chains of fma hide its latency. More bands than
 * that needs would have x loaded into registers, where a factor in memory costs nothing. */
SHOAL_INLINE int32_t bands_of(const int32_t n_token)
{
    return n_token >= BANDS ? 1 : SUMS / n_token < BANDS ? SUMS / n_token : BANDS;
}

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
    n_col += format == SHOAL_FORMAT_FP8_BLOCK ? n_col % 2 : 0;
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
    return 256 * w->scale[row * n_block + (size_t)(c0 / SHOAL_FP8_BLOCK)] + (shoal__vec){0};
}

/* Columns that belong together in the bytes of a band. */
SHOAL_INLINE int32_t unit_of(const shoal_format format)
{
    return in_quads(format) ? SHOAL_GROUP : format == SHOAL_FORMAT_FP8_BLOCK ? 2 : 1;
}

/* s[n_band * n_token] += n columns of bands that lie band_bytes apart; n is a multiple of a step.
 */
SHOAL_INLINE void mac(shoal__vec (*s)[SHOAL_PARTS], const unsigned char *w, size_t band_bytes,
                      const shoal__codec codec, const float *const *x, int32_t n,
                      const int32_t n_band, const int32_t n_token)
{
    const int32_t step = shoal__step_columns(codec);
    for (int32_t k = 0; k < n; k += step, w += shoal__step_bytes(codec)) {
#pragma GCC unroll 4
        for (int32_t b = 0; b < n_band; b++) {
            /* The hardware's own suffices for several streams of weights that decode quickly. */
            if (n_band == 1 || step > 1)
                __builtin_prefetch(w + (size_t)b * band_bytes + AHEAD);
#pragma GCC unroll 4
            for (int32_t j = 0; j < step; j++) {
                shoal__vec v[SHOAL_PARTS];
                shoal__decode(v, codec, w + (size_t)b * band_bytes, j);
#pragma GCC unroll 8
                for (int32_t t = 0; t < n_token; t++) {
#pragma GCC unroll 4
                    for (int32_t p = 0; p < SHOAL_PARTS; p++)
                        s[b * n_token + t][p] =
                            shoal__vec_fma(x[t][k + j], v[p], s[b * n_token + t][p]);
                }
            }
        }
    }
}

/* The same for a group of columns, or all if the format has none; n is a multiple of a unit. */
SHOAL_INLINE void mac_group(shoal__vec (*s)[SHOAL_PARTS], const unsigned char *w, size_t band_bytes,
                            const shoal_format format, const float *const *x, int32_t n,
                            const int32_t n_band, const int32_t n_token)
{
    if (!in_quads(format)) {
        const shoal__codec codec = format == SHOAL_FORMAT_F32    ? SHOAL__F32
                                   : format == SHOAL_FORMAT_F16  ? SHOAL__F16
                                   : format == SHOAL_FORMAT_BF16 ? SHOAL__BF16
                                                                 : SHOAL__E4M3;
        mac(s, w, band_bytes, codec, x, n, n_band, n_token);
        return;
    }
    w += shoal__group_scale_bytes(format);
    if (format == SHOAL_FORMAT_Q8) {
        mac(s, w, band_bytes, SHOAL__INT8, x, SHOAL_GROUP, n_band, n_token);
        return;
    }
    const bool q4 = format == SHOAL_FORMAT_Q4;
    const int32_t half = SHOAL_GROUP / 2;
    const float *high[TOKENS];
    for (int32_t t = 0; t < n_token; t++)
        high[t] = x[t] + half;
    mac(s, w, band_bytes, q4 ? SHOAL__INT4_LOW : SHOAL__E2M1_LOW, x, half, n_band, n_token);
    mac(s, w, band_bytes, q4 ? SHOAL__INT4_HIGH : SHOAL__E2M1_HIGH, high, half, n_band, n_token);
}

/* The last n columns of rows of x with zeros behind them, as weights have them there. */
static void pad_rows(const float **x, float (*padded)[SHOAL_FP8_BLOCK], int32_t n, int32_t n_token)
{
    for (int32_t t = 0; t < n_token; t++) {
        memset(padded[t], 0, sizeof padded[t]);
        memcpy(padded[t], x[t], (size_t)n * sizeof(float));
        x[t] = padded[t];
    }
}

/* acc [n_band * n_token][16] = n_band bands from `band` on for n_token rows of x. */
SHOAL_INLINE void pass_sums(float (*acc)[SHOAL_BAND], const shoal_matrix *w, int32_t band,
                            const float *const *x, const shoal_format format, const int32_t n_band,
                            const int32_t n_token)
{
    const size_t band_bytes = (size_t)(band_at(w, 1, 0, format) - band_at(w, 0, 0, format));
    const int32_t group = scale_group(format) > 0 ? scale_group(format) : w->n_col;
    memset(acc, 0, (size_t)(n_band * n_token) * sizeof *acc);
    for (int32_t c = 0; c < w->n_col; c += group) {
        int32_t n = w->n_col - c < group ? w->n_col - c : group;
        const float *x_c[TOKENS];
        float padded[TOKENS][SHOAL_FP8_BLOCK];
        for (int32_t t = 0; t < n_token; t++)
            x_c[t] = x[t] + c;
        if (n % unit_of(format) != 0) {
            pad_rows(x_c, padded, n, n_token);
            n += unit_of(format) - n % unit_of(format);
        }
        shoal__vec s[SUMS][SHOAL_PARTS];
#pragma GCC unroll 16
        for (int32_t i = 0; i < n_band * n_token; i++) {
#pragma GCC unroll 4
            for (int32_t p = 0; p < SHOAL_PARTS; p++)
                s[i][p] = (shoal__vec){0};
        }
        mac_group(s, band_at(w, band, c, format), band_bytes, format, x_c, n, n_band, n_token);
#pragma GCC unroll 16
        for (int32_t i = 0; i < n_band * n_token; i++) {
#pragma GCC unroll 4
            for (int32_t p = 0; p < SHOAL_PARTS; p++) {
                float *to = acc[i] + p * SHOAL_LANES;
                shoal__vec sum = s[i][p];
                if (scale_group(format) > 0) {
                    shoal__vec scale = scales_at(w, band + i / n_token, c, p * SHOAL_LANES, format);
                    sum = shoal__vec_fma_each(scale, sum, shoal__vec_load(to));
                }
                shoal__vec_store(to, sum);
            }
        }
    }
}

/* What a call works on. */
typedef struct product {
    float *y;
    int64_t ld_y;
    const shoal_matrix *w;
    const float *x;
    int64_t ld_x;
    int32_t n_token;
} product;

/* Bands [band, band1) for up to n_token tokens from token t0 on. */
SHOAL_INLINE void pass(const product *o, int32_t band, int32_t band1, int32_t t0,
                       const shoal_format format, const int32_t n_token)
{
    _Alignas(64) float acc[SUMS][SHOAL_BAND];
    const int32_t n_band = bands_of(n_token);
    const int32_t n_real = o->n_token - t0 < n_token ? o->n_token - t0 : n_token;
    const float *x[TOKENS];
    for (int32_t t = 0; t < n_token; t++)
        x[t] = o->x + (t0 + (t < n_real ? t : n_real - 1)) * o->ld_x;
    while (band < band1) {
        int32_t n = band + n_band <= band1 ? n_band : 1;
        if (n == n_band)
            pass_sums(acc, o->w, band, x, format, n_band, n_token);
        else
            pass_sums(acc, o->w, band, x, format, 1, n_token);
        for (int32_t i = 0; i < n; i++) {
            int32_t row0 = (band + i) * SHOAL_BAND;
            int32_t n_row = o->w->n_row - row0 < SHOAL_BAND ? o->w->n_row - row0 : SHOAL_BAND;
            for (int32_t t = 0; t < n_real; t++)
                memcpy(o->y + (t0 + t) * o->ld_y + row0, acc[i * n_token + t],
                       (size_t)n_row * sizeof(float));
        }
        band += n;
    }
}

/* A few bands for all tokens before the next ones: they come from memory once. A rest of 3 or 7
 * tokens takes as long as one more would. */
SHOAL_INLINE void all_tokens(const product *o, int32_t band0, int32_t band1,
                             const shoal_format format)
{
    for (int32_t band = band0; band < band1; band += BANDS) {
        int32_t end = band1 - band < BANDS ? band1 : band + BANDS;
        int32_t t = 0;
        for (; TOKENS == 8 && o->n_token - t >= 7; t += 8)
            pass(o, band, end, t, format, TOKENS);
        for (; o->n_token - t >= 3; t += 4)
            pass(o, band, end, t, format, 4);
        for (; o->n_token - t >= 2; t += 2)
            pass(o, band, end, t, format, 2);
        if (o->n_token - t == 1)
            pass(o, band, end, t, format, 1);
    }
}

/* Functions of their own, as one of all would have too many loops to hold each in registers. */
#define PRODUCT_OF(name, format)                                                                   \
    static void name(const product *o, int32_t band0, int32_t band1)                               \
    {                                                                                              \
        all_tokens(o, band0, band1, format);                                                       \
    }
PRODUCT_OF(product_f32, SHOAL_FORMAT_F32)
PRODUCT_OF(product_f16, SHOAL_FORMAT_F16)
PRODUCT_OF(product_bf16, SHOAL_FORMAT_BF16)
PRODUCT_OF(product_fp8, SHOAL_FORMAT_FP8_BLOCK)
PRODUCT_OF(product_mxfp4, SHOAL_FORMAT_MXFP4)
PRODUCT_OF(product_q8, SHOAL_FORMAT_Q8)
PRODUCT_OF(product_q4, SHOAL_FORMAT_Q4)

static void (*const product_of[SHOAL_N_FORMAT])(const product *o, int32_t band0, int32_t band1) = {
    [SHOAL_FORMAT_F32] = product_f32,     [SHOAL_FORMAT_F16] = product_f16,
    [SHOAL_FORMAT_BF16] = product_bf16,   [SHOAL_FORMAT_FP8_BLOCK] = product_fp8,
    [SHOAL_FORMAT_MXFP4] = product_mxfp4, [SHOAL_FORMAT_Q8] = product_q8,
    [SHOAL_FORMAT_Q4] = product_q4,
};

void SHOAL_FN(matmul)(float *y, int64_t ld_y, const shoal_matrix *w, int32_t band0, int32_t band1,
                      const float *x, int64_t ld_x, int32_t n_token)
{
    const product o = {.y = y, .ld_y = ld_y, .w = w, .x = x, .ld_x = ld_x, .n_token = n_token};
    product_of[w->format](&o, band0, band1);
}
