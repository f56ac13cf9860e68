/* matmul of the opt-in kernels avx512-bf16. vdpbf16ps adds the products of two neighbouring columns
 * to a lane, and takes the activations rounded to bf16: twice the columns per instruction, other
 * bits than rule 1's. The order of a sum is as fixed as there, so that the result still depends
 * neither on ranks nor on tokens, chunks or threads:
 *
 *   BF16       lane = output row; pairs of columns in order, a last odd column with a zero
 *   FP8_BLOCK  the same per 128 columns (e4m3 is exact in bf16), then acc = fma(scale, group, acc)
 *
 * Other formats are avx512's. The packed layout is everyone's: FP8 lies in pairs of columns; of
 * BF16, a column's 16 rows and the next column's lie in one register, and one permutation makes
 * pairs of them.
 * Compiled with SHOAL_VARIANT=avx512. Layering: inside runtime/kernels only. */
#include "runtime/kernels/cpu/variant.h"

#include <immintrin.h>
#include <string.h>

enum {
    GROUP = SHOAL_FP8_BLOCK, /* columns that are decoded, and have a scale, together */
    PASS = 8,                /* tokens whose sums stay in registers, with two bands */
    TOKENS = 8 * PASS,       /* tokens that share one decoding */
    BANDS = 8,               /* bands that share one rounding of the activations */
    SLAB = TOKENS * GROUP,   /* activations that are rounded at a time: 16 KiB */
    PAD = 32,                /* values; rows of a slab begin in different sets of the L1 */
    AHEAD = 2048,            /* bytes: few tokens' weights are asked for this early */
};

typedef enum codec { CODEC_BF16, CODEC_E4M3, CODEC_PAIRS } codec;

/* What a column of a band takes. */
SHOAL_INLINE size_t codec_bytes(const codec from)
{
    return from == CODEC_E4M3 ? SHOAL_BAND : SHOAL_BAND * sizeof(uint16_t);
}

/* The bytes of e4m3 magnitudes as bf16. Normal numbers: the exponent is re-biased by 120. */
#define LOW_8      0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70
#define LOW_16     LOW_8, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0, 0xe0, 0xf0
#define HIGH_8(h)  h, h, h, h, h, h, h, h
#define HIGH_16(h) HIGH_8(h), HIGH_8(h)

static const _Alignas(64) uint8_t e4m3_low[128] = {
    0x00,   0x00,   0x80,  0xc0, 0x00, 0x20, 0x40, 0x60, /* subnormal: 0 .. 7 times 2^-9 */
    0x80,   0x90,   0xa0,  0xb0, 0xc0, 0xd0, 0xe0, 0xf0, LOW_16, LOW_16, LOW_16, LOW_16,
    LOW_16, LOW_16, LOW_8, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0,   0xe0,   0xc0, /* NaN */
};
static const _Alignas(64) uint8_t e4m3_high[128] = {
    0x00,          0x3b,          0x3b,          0x3b,          0x3c,          0x3c,
    0x3c,          0x3c,          HIGH_8(0x3c),  HIGH_16(0x3d), HIGH_16(0x3e), HIGH_16(0x3f),
    HIGH_16(0x40), HIGH_16(0x41), HIGH_16(0x42), HIGH_8(0x43),  0x43,          0x43,
    0x43,          0x43,          0x43,          0x43,          0x43,          0x7f,
};

/* Two columns of a band as pairs: word 2r is row r of the first, 2r + 1 of the second. */
SHOAL_INLINE __m512i pair_words(__m512i columns)
{
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, columns);
}

/* The same of a pair of e4m3, by way of 128-entry tables, which look at 7 bits of an index. */
SHOAL_INLINE __m512i pair_e4m3(__m256i pair)
{
    __m512i word = _mm512_cvtepu8_epi16(pair);
    __m512i code = _mm512_or_si512(word, _mm512_slli_epi16(word, 8)); /* in both bytes */
    __m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(e4m3_low), code,
                                           _mm512_load_si512(e4m3_low + 64));
    __m512i high = _mm512_permutex2var_epi8(_mm512_load_si512(e4m3_high), code,
                                            _mm512_load_si512(e4m3_high + 64));
    __m512i magnitude = _mm512_mask_blend_epi8(0xaaaaaaaaaaaaaaaaull, low, high);
    __m512i sign = _mm512_and_si512(code, _mm512_set1_epi16((short)0x8000));
    return _mm512_or_si512(magnitude, sign);
}

/* w: the first of two columns; else the second is zeros, which FP8 has there. */
SHOAL_INLINE __m512i load_pairs(const codec from, const unsigned char *w, const bool two)
{
    if (from == CODEC_PAIRS)
        return _mm512_load_si512(w);
    if (from == CODEC_E4M3)
        return pair_e4m3(_mm256_loadu_si256((const __m256i_u *)w));
    return pair_words(two ? _mm512_loadu_si512(w)
                          : _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i_u *)w)));
}

/* Columns of a slab, and the distance of its rows, for n_token tokens. */
SHOAL_INLINE int32_t slab_columns(const codec from, const int32_t n_token)
{
    return from == CODEC_PAIRS ? GROUP : SLAB / n_token / GROUP * GROUP;
}

SHOAL_INLINE int32_t slab_stride(const codec from, const int32_t n_token)
{
    return slab_columns(from, n_token) + PAD;
}

/* Columns [col0, col0 + n_col) of some bands for some tokens. */
typedef struct part {
    float (*acc)[TOKENS][SHOAL_BAND]; /* of the first band */
    int32_t token;                    /* the first one's place in acc */
    const shoal_matrix *w;
    int32_t band;
    int32_t col0;
    int32_t n_col;
    const unsigned char *at;   /* the first band at col0 */
    size_t band_bytes;         /* from one band to the next there */
    const uint16_t *x;         /* rounded rows; a zero behind an odd last column */
    const unsigned char *next; /* CODEC_PAIRS: what to ask for meanwhile */
} part;

/* s [n_band * n_token] += column k of the part and, if there are two, the next. */
SHOAL_INLINE void mac_pair(__m512 *s, const part *p, int32_t k, const bool two, const codec from,
                           const int32_t n_band, const int32_t n_token)
{
    const int32_t stride = slab_stride(from, n_token);
    if (from == CODEC_PAIRS)
        __builtin_prefetch(p->next + (size_t)k * codec_bytes(from), 0, 2);
#pragma GCC unroll 4
    for (int32_t b = 0; b < n_band; b++) {
        const unsigned char *at = p->at + (size_t)b * p->band_bytes + (size_t)k * codec_bytes(from);
        if (from != CODEC_PAIRS)
            __builtin_prefetch(at + AHEAD);
        __m512bh v = (__m512bh)load_pairs(from, at, two);
#pragma GCC unroll 8
        for (int32_t t = 0; t < n_token; t++) {
            int32_t pair;
            memcpy(&pair, p->x + t * stride + k, sizeof pair);
            __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
            s[b * n_token + t] = _mm512_dpbf16_ps(s[b * n_token + t], v, x);
        }
    }
}

/* sum [n_band][token0 + n_token] += n columns from column k0 of the part. */
SHOAL_INLINE void mac(float (*sum)[TOKENS][SHOAL_BAND], int32_t token0, const part *p, int32_t k0,
                      int32_t n, const codec from, const int32_t n_band, const int32_t n_token)
{
    __m512 s[2 * PASS];
#pragma GCC unroll 16
    for (int32_t i = 0; i < n_band * n_token; i++)
        s[i] = _mm512_load_ps(sum[i / n_token][token0 + i % n_token]);
    int32_t k = k0;
    for (; k + 2 <= k0 + n; k += 2)
        mac_pair(s, p, k, true, from, n_band, n_token);
    if (n % 2 != 0)
        mac_pair(s, p, k, false, from, n_band, n_token);
#pragma GCC unroll 16
    for (int32_t i = 0; i < n_band * n_token; i++)
        _mm512_store_ps(sum[i / n_token][token0 + i % n_token], s[i]);
}

static float scale_at(const shoal_matrix *w, int32_t band, int32_t col)
{
    size_t n_block = ((size_t)w->n_col + GROUP - 1) / GROUP;
    return w->scale[(size_t)(band / (GROUP / SHOAL_BAND)) * n_block + (size_t)(col / GROUP)];
}

/* The part's sums into its acc; FP8's group by group. */
SHOAL_INLINE void add_part(const part *p, const codec from, const int32_t n_band,
                           const int32_t n_token)
{
    if (p->w->format == SHOAL_FORMAT_BF16) {
        mac(p->acc, p->token, p, 0, p->n_col, from, n_band, n_token);
        return;
    }
    for (int32_t k = 0; k < p->n_col; k += GROUP) {
        _Alignas(64) float sum[4][TOKENS][SHOAL_BAND];
        for (int32_t b = 0; b < n_band; b++)
            memset(sum[b], 0, (size_t)n_token * sizeof sum[b][0]);
        int32_t n = p->n_col - k < GROUP ? p->n_col - k : GROUP;
        mac(sum, 0, p, k, n, from, n_band, n_token);
        for (int32_t b = 0; b < n_band; b++) {
            __m512 scale = _mm512_set1_ps(scale_at(p->w, p->band + b, p->col0 + k));
            for (int32_t t = 0; t < n_token; t++) {
                float *acc = p->acc[b][p->token + t];
                __m512 s = _mm512_fmadd_ps(scale, _mm512_load_ps(sum[b][t]), _mm512_load_ps(acc));
                _mm512_store_ps(acc, s);
            }
        }
    }
}

/* All of the part's bands, n_band at a time. */
SHOAL_INLINE void add_bands(const part *all, int32_t n, const codec from, const int32_t n_band,
                            const int32_t n_token)
{
    part p = *all;
    int32_t b = 0;
    for (; b + n_band <= n; b += n_band) {
        add_part(&p, from, n_band, n_token);
        p.acc += n_band;
        p.band += n_band;
        p.at += (size_t)n_band * p.band_bytes;
    }
    for (; b < n; b++) {
        add_part(&p, from, 1, n_token);
        p.acc++;
        p.band++;
        p.at += p.band_bytes;
    }
}

/* One token needs bands enough that their chains of additions do not wait for each other; more
 * tokens, so many that a weight that was loaded is used often. */
#define ADD_OF(name, from, n_band, n_token)                                                        \
    static void name(const part *p, int32_t n)                                                     \
    {                                                                                              \
        add_bands(p, n, from, n_band, n_token);                                                    \
    }
ADD_OF(bf16_1, CODEC_BF16, 4, 1)
ADD_OF(bf16_2, CODEC_BF16, 4, 2)
ADD_OF(bf16_4, CODEC_BF16, 4, 4)
ADD_OF(bf16_8, CODEC_BF16, 2, PASS)
ADD_OF(e4m3_1, CODEC_E4M3, 4, 1)
ADD_OF(e4m3_2, CODEC_E4M3, 4, 2)
ADD_OF(e4m3_4, CODEC_E4M3, 4, 4)
ADD_OF(e4m3_8, CODEC_E4M3, 2, PASS)
ADD_OF(pairs_4, CODEC_PAIRS, 2, 4)
ADD_OF(pairs_8, CODEC_PAIRS, 2, PASS)

/* y [n_row, y_stride] = n columns of x in bf16, zeros up to a whole register. Rows from n_token on
 * repeat the last one. */
static void round_rows(uint16_t *y, int32_t y_stride, int32_t n_row, const float *x, int64_t ld_x,
                       int32_t n_token, int32_t n)
{
    for (int32_t t = 0; t < n_row; t++) {
        const float *row = x + (t < n_token ? t : n_token - 1) * ld_x;
        for (int32_t c = 0; c < n; c += 32) {
            uint32_t real = n - c >= 32 ? 0xffffffffu : (1u << (n - c)) - 1;
            __m512 low = _mm512_maskz_loadu_ps((__mmask16)real, row + c);
            __m512 high = _mm512_maskz_loadu_ps((__mmask16)(real >> 16), row + c + 16);
            _mm512_store_si512(y + t * y_stride + c, (__m512i)_mm512_cvtne2ps_pbh(high, low));
        }
    }
}

/* pairs [n_band][GROUP / 2][32] = the part's columns, at most GROUP; the part then reads them. */
static void decode_part(part *p, unsigned char (*pairs)[GROUP * 32], int32_t n_band)
{
    const codec from = p->w->format == SHOAL_FORMAT_BF16 ? CODEC_BF16 : CODEC_E4M3;
    for (int32_t b = 0; b < n_band; b++) {
        const unsigned char *at = p->at + (size_t)b * p->band_bytes;
        for (int32_t k = 0; k < p->n_col; k += 2) {
            const unsigned char *w = at + (size_t)k * codec_bytes(from);
            bool two = k + 1 < p->n_col;
            __m512i v = from == CODEC_BF16 ? load_pairs(CODEC_BF16, w, two)
                                           : load_pairs(CODEC_E4M3, w, two);
            _mm512_store_si512(pairs[b] + (size_t)k * codec_bytes(CODEC_PAIRS), v);
        }
    }
    p->at = pairs[0];
    p->band_bytes = sizeof pairs[0];
}

/* The bands of a part for more tokens than one pass takes: weights are decoded once for all. While
 * the first passes compute, the columns that come next are fetched, a band in each; behind the last
 * columns come other bands. */
static void add_many(const part *all, int32_t n_band, int32_t n_token)
{
    _Alignas(64) unsigned char pairs[2][GROUP * 32];
    const size_t column_bytes =
        codec_bytes(all->w->format == SHOAL_FORMAT_BF16 ? CODEC_BF16 : CODEC_E4M3);
    const size_t next = all->col0 + all->n_col < all->w->n_col
                            ? (size_t)all->n_col * column_bytes
                            : (size_t)n_band * all->band_bytes - (size_t)all->col0 * column_bytes;
    for (int32_t b = 0; b < n_band; b += 2) {
        int32_t n = n_band - b < 2 ? 1 : 2;
        part p = *all;
        p.acc += b;
        p.band += b;
        p.at += (size_t)b * p.band_bytes;
        const unsigned char *to_come = p.at + next;
        decode_part(&p, pairs, n);
        for (int32_t pass; p.token < n_token; p.token += pass) {
            int32_t rest = n_token - p.token;
            pass = rest > 4 ? PASS : 4;
            p.next = p.token / PASS < n ? to_come : pairs[0];
            (pass == PASS ? pairs_8 : pairs_4)(&p, n);
            p.x += pass * slab_stride(CODEC_PAIRS, pass);
            to_come += all->band_bytes;
        }
    }
}

/* What up to n_token tokens are computed by in one pass. */
static const struct few {
    int32_t n_token;
    void (*bf16)(const part *p, int32_t n);
    void (*fp8)(const part *p, int32_t n);
} few[] = {{1, bf16_1, e4m3_1}, {2, bf16_2, e4m3_2}, {4, bf16_4, e4m3_4}, {PASS, bf16_8, e4m3_8}};

/* At most BANDS bands for at most TOKENS tokens. */
static void add_columns(float (*acc)[TOKENS][SHOAL_BAND], const shoal_matrix *w, int32_t band,
                        int32_t n_band, const float *x, int64_t ld_x, int32_t n_token)
{
    _Alignas(64) uint16_t slab[SLAB + TOKENS * PAD];
    const bool bf16 = w->format == SHOAL_FORMAT_BF16;
    const struct few *f = few;
    while (f->n_token < n_token && f->n_token < PASS)
        f++;
    const bool many = n_token > PASS;
    const codec from = many ? CODEC_PAIRS : CODEC_BF16;
    const int32_t n_row = many ? (n_token + 3) / 4 * 4 : f->n_token;
    const int32_t columns = slab_columns(from, n_row);
    const size_t column_bytes = codec_bytes(bf16 ? CODEC_BF16 : CODEC_E4M3);
    part p = {.acc = acc, .w = w, .band = band, .x = slab};
    p.band_bytes = shoal_matrix_data_bytes(w->format, SHOAL_BAND, w->n_col);
    for (; p.col0 < w->n_col; p.col0 += columns) {
        p.n_col = w->n_col - p.col0 < columns ? w->n_col - p.col0 : columns;
        p.at = (const unsigned char *)w->data + (size_t)band * p.band_bytes +
               (size_t)p.col0 * column_bytes;
        round_rows(slab, slab_stride(from, n_row), n_row, x + p.col0, ld_x, n_token, p.n_col);
        if (many)
            add_many(&p, n_band, n_token);
        else
            (bf16 ? f->bf16 : f->fp8)(&p, n_band);
    }
}

void shoal__matmul_avx512_bf16(float *y, int64_t ld_y, const shoal_matrix *w, int32_t band0,
                               int32_t band1, const float *x, int64_t ld_x, int32_t n_token)
{
    if (w->format != SHOAL_FORMAT_BF16 && w->format != SHOAL_FORMAT_FP8_BLOCK) {
        SHOAL_FN(matmul)(y, ld_y, w, band0, band1, x, ld_x, n_token);
        return;
    }
    _Alignas(64) float acc[BANDS][TOKENS][SHOAL_BAND];
    for (int32_t t0 = 0; t0 < n_token; t0 += TOKENS) {
        int32_t n = n_token - t0 < TOKENS ? n_token - t0 : TOKENS;
        for (int32_t band = band0; band < band1; band += BANDS) {
            int32_t n_band = band1 - band < BANDS ? band1 - band : BANDS;
            for (int32_t b = 0; b < n_band; b++)
                memset(acc[b], 0, (size_t)(n + 3) / 4 * 4 * sizeof acc[b][0]);
            add_columns(acc, w, band, n_band, x + t0 * ld_x, ld_x, n);
            for (int32_t b = 0; b < n_band; b++) {
                int32_t row0 = (band + b) * SHOAL_BAND;
                int32_t n_row = w->n_row - row0 < SHOAL_BAND ? w->n_row - row0 : SHOAL_BAND;
                for (int32_t t = 0; t < n; t++)
                    memcpy(y + (t0 + t) * ld_y + row0, acc[b][t], (size_t)n_row * sizeof(float));
            }
        }
    }
}
