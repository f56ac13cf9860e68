/* Attention over one block of the cache for the queries that share a kv head. Both products are
 * matmul's inner loop over what the cache holds, decoded in registers: scores with a lane per
 * position, values with a lane per value element. */
#include "runtime/kernels/cpu/decode.h"
#include "runtime/kernels/cpu/vec_math.h"

enum {
    POSITIONS = SHOAL_ATTEND_BLOCK,
    BANDS = POSITIONS / SHOAL_BAND,
    QUERIES = SHOAL_LANES == 16 ? 8 : 4, /* whose sums stay in registers */
};

/* One product: acc [n_row, ld_acc] += x [n_row, ld_x] * w, over n columns of x in order. w: bands
 * of 16 lanes that lie band_bytes apart, in each the columns step_bytes apart. */
typedef struct product {
    float *acc;
    int64_t ld_acc;
    const float *x;
    int64_t ld_x;
    const unsigned char *w;
    size_t step_bytes, band_bytes;
    int32_t n, n_row, n_band;
    bool fresh;                /* acc = instead of += */
    const unsigned char *next; /* read after this: as many bytes are fetched ahead as w has */
} product;

/* n_row rows from row t0, of which those from n_real on repeat the last and are dropped, times
 * n_band bands from band b0. Both are constants. */
SHOAL_INLINE void mac_tile(const product *m, int32_t t0, int32_t n_real, int32_t b0,
                           const shoal__codec codec, const int32_t n_row, const int32_t n_band)
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
    const unsigned char *next = m->next + (size_t)b0 * column_bytes / (size_t)n_band * (size_t)m->n;
    for (int32_t k = 0; k < m->n; k++) {
        const unsigned char *column = w + (size_t)k * m->step_bytes;
        shoal__vec v[4 * SHOAL_PARTS];
#pragma GCC unroll 4
        for (size_t i = 0; i < column_bytes; i += 64)
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
SHOAL_INLINE void mac_rows(const product *m, int32_t t0, int32_t n_real, const shoal__codec codec,
                           const int32_t n_row, const int32_t n_band)
{
    int32_t b = 0;
    for (; b + n_band <= m->n_band; b += n_band)
        mac_tile(m, t0, n_real, b, codec, n_row, n_band);
    for (; b < m->n_band; b++)
        mac_tile(m, t0, n_real, b, codec, n_row, 1);
}

/* At most QUERIES rows, rounded up to 1, 2, 4 or 8. */
SHOAL_INLINE void mac(const product *m, const shoal__codec codec)
{
    const int32_t wide = SHOAL_LANES == 16;
    if (m->n_row == 1)
        mac_rows(m, 0, 1, codec, 1, wide || SHOAL_LANES == 8 ? 4 : 2);
    else if (m->n_row == 2)
        mac_rows(m, 0, 2, codec, 2, wide ? 4 : SHOAL_LANES == 8 ? 2 : 1);
    else if (m->n_row <= 4)
        mac_rows(m, 0, m->n_row, codec, 4, wide ? 4 : 1);
    else if (QUERIES > 4)
        mac_rows(m, 0, m->n_row, codec, 8, 2);
}

/* Functions of their own, as one of all would have too many loops to hold each in registers. */
static __attribute__((noinline)) void mac_f32(const product *m)
{
    mac(m, SHOAL__F32);
}

static __attribute__((noinline)) void mac_bf16(const product *m)
{
    mac(m, SHOAL__BF16);
}

static void mac_of(const product *m, shoal_kv_dtype dtype)
{
    if (dtype == SHOAL_KV_F32)
        mac_f32(m);
    else
        mac_bf16(m);
}

static size_t element_bytes(shoal_kv_dtype dtype)
{
    return dtype == SHOAL_KV_F32 ? sizeof(float) : sizeof(uint16_t);
}

/* Queries that are worked on together, each with the positions [lo, hi) that it sees. */
typedef struct group {
    _Alignas(64) float p[QUERIES][POSITIONS]; /* scores, then weights of the values */
    int32_t n;
    int32_t lo[QUERIES], hi[QUERIES];
    int32_t min_lo, max_lo, min_hi, max_hi;
} group;

/* Scores of all positions that one of the queries sees. */
static void score(group *g, const float *q, int64_t ld_q, const shoal_attend_kv *kv)
{
    int32_t band0 = g->min_lo / SHOAL_BAND;
    size_t step_bytes = SHOAL_BAND * element_bytes(kv->dtype);
    size_t band_bytes = (size_t)kv->d_k * step_bytes;
    const product m = {.acc = g->p[0] + band0 * SHOAL_BAND,
                       .ld_acc = POSITIONS,
                       .x = q,
                       .ld_x = ld_q,
                       .w = (const unsigned char *)kv->key + (size_t)band0 * band_bytes,
                       .step_bytes = step_bytes,
                       .band_bytes = band_bytes,
                       .n = kv->d_k,
                       .n_row = g->n,
                       .n_band = (g->max_hi + SHOAL_BAND - 1) / SHOAL_BAND - band0,
                       .fresh = true,
                       .next = kv->value};
    mac_of(&m, kv->dtype);
}

/* One query's scores, scaled; masked positions take no part in the maximum that is returned. */
static float scale_and_mask(float *p, int32_t first, int32_t last, float scale)
{
    shoal__vec max[SHOAL_PARTS];
    for (int32_t j = 0; j < SHOAL_PARTS; j++)
        max[j] = shoal__vec_set(-INFINITY);
    if (first > 0 || last < POSITIONS) {
        for (int32_t i = 0; i < POSITIONS; i++)
            p[i] = i >= first && i < last ? p[i] * scale : -INFINITY;
        scale = 1.0f;
    }
#pragma GCC unroll 16
    for (int32_t j = 0; j < POSITIONS / SHOAL_LANES; j++) {
        shoal__vec v = shoal__vec_load(p + j * SHOAL_LANES) * shoal__vec_set(scale);
        shoal__vec_store(p + j * SHOAL_LANES, v);
        max[j % SHOAL_PARTS] = shoal__vec_max(max[j % SHOAL_PARTS], v);
    }
    return shoal__fold_max(max);
}

/* One query's scores become the weights p = exp(score - max) of its values, exactly 0 where masked;
 * their sum. */
static float weigh(float *p, float max)
{
    shoal__vec sum[SHOAL_PARTS] = {{0}};
#pragma GCC unroll 16
    for (int32_t j = 0; j < POSITIONS / SHOAL_LANES; j++) {
        shoal__vec v = shoal__vec_exp(shoal__vec_load(p + j * SHOAL_LANES) - shoal__vec_set(max));
        shoal__vec_store(p + j * SHOAL_LANES, v);
        sum[j % SHOAL_PARTS] += v;
    }
    return shoal__fold_sum(sum);
}

/* Scores become weights; states and outs move to the new maxima. */
static void update_states(group *g, float *out, int64_t ld_out, shoal_attend_state *state,
                          float scale, int32_t d_v)
{
    _Alignas(64) float shrink[SHOAL_BAND] = {0};
    for (int32_t i = 0; i < g->n; i++) {
        float block_max = scale_and_mask(g->p[i], g->lo[i], g->hi[i], scale);
        float max = state[i].max < block_max ? block_max : state[i].max;
        shrink[i] = state[i].max - max;
        state[i].max = max;
    }
    for (int32_t i = 0; i < g->n; i += SHOAL_LANES)
        shoal__vec_store(shrink + i, shoal__vec_exp(shoal__vec_load(shrink + i)));
    for (int32_t i = 0; i < g->n; i++) {
        state[i].denom = fmaf(state[i].denom, shrink[i], weigh(g->p[i], state[i].max));
        for (int32_t d = 0; d < d_v && shrink[i] != 1.0f; d++)
            out[i * ld_out + d] *= shrink[i];
    }
}

/* out [n_row] += sum over positions [from, to) in order of p v, for n_row queries from `row`. Only
 * visible positions are touched: what else the cache holds cannot show. */
static void add_values(float *out, int64_t ld_out, const group *g, int32_t row, int32_t n_row,
                       int32_t from, int32_t to, const shoal_attend_kv *kv)
{
    if (from >= to)
        return;
    size_t bytes = element_bytes(kv->dtype);
    const product m = {.acc = out + row * ld_out,
                       .ld_acc = ld_out,
                       .x = g->p[row] + from,
                       .ld_x = POSITIONS,
                       .w = (const unsigned char *)kv->value +
                            (size_t)from * (size_t)kv->d_v * bytes,
                       .step_bytes = (size_t)kv->d_v * bytes,
                       .band_bytes = SHOAL_BAND * bytes,
                       .n = to - from,
                       .n_row = n_row,
                       .n_band = kv->d_v / SHOAL_BAND,
                       .next = kv->next};
    mac_of(&m, kv->dtype);
    for (int32_t d = m.n_band * SHOAL_BAND; d < kv->d_v; d++) {
        for (int32_t k = 0; k < m.n; k++) {
            const unsigned char *at = m.w + (size_t)k * m.step_bytes + (size_t)d * bytes;
            float v;
            if (kv->dtype == SHOAL_KV_F32) {
                memcpy(&v, at, sizeof v);
            } else {
                uint16_t half;
                memcpy(&half, at, sizeof half);
                v = shoal__from_bf16(half);
            }
            for (int32_t i = 0; i < n_row; i++) {
                float *y = m.acc + i * ld_out + d;
                *y = fmaf(m.x[i * POSITIONS + k], v, *y);
            }
        }
    }
}

/* Positions that all see are added for all at once, those before and behind for each alone: in
 * order for each. */
static void attend_group(group *g, float *out, int64_t ld_out, shoal_attend_state *state,
                         const float *q, int64_t ld_q, float scale, const shoal_attend_kv *kv)
{
    score(g, q, ld_q, kv);
    update_states(g, out, ld_out, state, scale, kv->d_v);
    int32_t from = g->max_lo < g->min_hi ? g->max_lo : POSITIONS;
    int32_t to = g->max_lo < g->min_hi ? g->min_hi : POSITIONS;
    for (int32_t i = 0; i < g->n; i++)
        add_values(out, ld_out, g, i, 1, g->lo[i], g->hi[i] < from ? g->hi[i] : from, kv);
    add_values(out, ld_out, g, 0, g->n, from, to, kv);
    for (int32_t i = 0; i < g->n; i++)
        add_values(out, ld_out, g, i, 1, to, g->hi[i], kv);
}

void SHOAL_FN(attend_block)(float *out, int64_t ld_out, shoal_attend_state *state, const float *q,
                            int64_t ld_q, int32_t n_query, const int32_t *first,
                            const int32_t *last, float scale, const shoal_attend_kv *kv)
{
    group g;
    for (int32_t i = 0; i < n_query;) {
        g.n = 0;
        g.min_lo = g.min_hi = POSITIONS;
        g.max_lo = g.max_hi = 0;
        for (; g.n < QUERIES && i + g.n < n_query; g.n++) {
            int32_t lo = first[i + g.n] < 0 ? 0 : first[i + g.n];
            int32_t hi = last[i + g.n] > POSITIONS ? POSITIONS : last[i + g.n];
            if (lo >= hi)
                break;
            g.lo[g.n] = lo;
            g.hi[g.n] = hi;
            g.min_lo = lo < g.min_lo ? lo : g.min_lo;
            g.max_lo = lo > g.max_lo ? lo : g.max_lo;
            g.min_hi = hi < g.min_hi ? hi : g.min_hi;
            g.max_hi = hi > g.max_hi ? hi : g.max_hi;
        }
        if (g.n > 0)
            attend_group(&g, out + i * ld_out, ld_out, &state[i], q + i * ld_q, ld_q, scale, kv);
        i += g.n > 0 ? g.n : 1; /* past one that sees nothing */
    }
}

/* 8 columns of 8 positions each become 8 rows: three rounds of pairing. Only moves, so any
 * instructions will do. */
typedef uint16_t half8 __attribute__((vector_size(16)));
typedef uint32_t word4 __attribute__((vector_size(16)));

SHOAL_INLINE void zip_half(half8 *low, half8 *high, half8 a, half8 b)
{
    *low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    *high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}

static void values_bf16(uint16_t *value, const uint16_t *key, int32_t n_band, int32_t d_k,
                        int32_t d_v)
{
    for (int32_t half = 0; half < 2 * n_band; half++) {
        const uint16_t *from = key + (half / 2 * d_k * SHOAL_BAND) + half % 2 * 8;
        uint16_t *to = value + (int64_t)half * 8 * d_v;
        int32_t d = 0;
        for (; d + 8 <= d_v; d += 8) {
            half8 a[8], b[8];
            for (int32_t i = 0; i < 8; i++)
                memcpy(&a[i], from + (d + i) * SHOAL_BAND, sizeof a[i]);
            for (int32_t i = 0; i < 4; i++)
                zip_half(&b[2 * i], &b[2 * i + 1], a[i], a[i + 4]);
            for (int32_t i = 0; i < 4; i++)
                zip_half(&a[2 * i], &a[2 * i + 1], b[i], b[i + 4]);
            for (int32_t i = 0; i < 4; i++)
                zip_half(&b[2 * i], &b[2 * i + 1], a[i], a[i + 4]);
            for (int32_t i = 0; i < 8; i++)
                memcpy(to + i * d_v + d, &b[i], sizeof b[i]);
        }
        for (; d < d_v; d++) {
            for (int32_t i = 0; i < 8; i++)
                to[i * d_v + d] = from[d * SHOAL_BAND + i];
        }
    }
}

SHOAL_INLINE void zip_word(word4 *low, word4 *high, word4 a, word4 b)
{
    *low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    *high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
}

static void values_f32(uint32_t *value, const uint32_t *key, int32_t n_band, int32_t d_k,
                       int32_t d_v)
{
    for (int32_t quarter = 0; quarter < 4 * n_band; quarter++) {
        const uint32_t *from = key + (quarter / 4 * d_k * SHOAL_BAND) + quarter % 4 * 4;
        uint32_t *to = value + (int64_t)quarter * 4 * d_v;
        int32_t d = 0;
        for (; d + 4 <= d_v; d += 4) {
            word4 a[4], b[4];
            for (int32_t i = 0; i < 4; i++)
                memcpy(&a[i], from + (d + i) * SHOAL_BAND, sizeof a[i]);
            for (int32_t i = 0; i < 2; i++)
                zip_word(&b[2 * i], &b[2 * i + 1], a[i], a[i + 2]);
            for (int32_t i = 0; i < 2; i++)
                zip_word(&a[2 * i], &a[2 * i + 1], b[i], b[i + 2]);
            for (int32_t i = 0; i < 4; i++)
                memcpy(to + i * d_v + d, &a[i], sizeof a[i]);
        }
        for (; d < d_v; d++) {
            for (int32_t i = 0; i < 4; i++)
                to[i * d_v + d] = from[d * SHOAL_BAND + i];
        }
    }
}

void SHOAL_FN(attend_values)(void *value, const void *key, shoal_kv_dtype dtype, int32_t n_position,
                             int32_t d_k, int32_t d_v)
{
    int32_t n_band = (n_position + SHOAL_BAND - 1) / SHOAL_BAND;
    if (dtype == SHOAL_KV_F32)
        values_f32(value, key, n_band, d_k, d_v);
    else
        values_bf16(value, key, n_band, d_k, d_v);
}

void SHOAL_FN(attend_merge)(float *out, shoal_attend_state *state, const float *part,
                            const shoal_attend_state *part_state, int32_t d_v)
{
    float max = state->max < part_state->max ? part_state->max : state->max;
    shoal__vec factor = {state->max - max, part_state->max - max};
    factor = shoal__vec_exp(factor);
    float keep = factor[0], take = factor[1];
    state->denom = fmaf(part_state->denom, take, state->denom * keep);
    state->max = max;
    for (int32_t d = 0; d < d_v; d++)
        out[d] = fmaf(part[d], take, out[d] * keep);
}

void SHOAL_FN(attend_sink)(float *out, shoal_attend_state *state, float sink, int32_t d_v)
{
    float max = state->max < sink ? sink : state->max;
    float shrink = shoal__exp(state->max - max);
    state->denom = fmaf(state->denom, shrink, shoal__exp(sink - max));
    state->max = max;
    for (int32_t d = 0; d < d_v; d++)
        out[d] *= shrink;
}

void SHOAL_FN(attend_finish)(float *out, const shoal_attend_state *state, int32_t d_v)
{
    for (int32_t d = 0; d < d_v; d++)
        out[d] = out[d] / state->denom;
}
