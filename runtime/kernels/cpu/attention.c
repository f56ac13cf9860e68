/* Attention over one block of the cache for the queries that share a kv head. Both products are the
 * inner loop of matmul: scores with a lane per position, values with a lane per value element. */
#include "runtime/kernels/cpu/lanes.h"
#include "runtime/kernels/cpu/scalar.h"

enum {
    POSITIONS = SHOAL_ATTEND_BLOCK,
    QUERIES = 8, /* queries that share one pass over the tiles */
};

/* d values from element `from` of a cache row. */
static void load_row(float *y, const unsigned char *row, shoal_kv_dtype dtype, int32_t from,
                     int32_t d)
{
    if (dtype == SHOAL_KV_F32)
        memcpy(y, row + (size_t)from * sizeof(float), (size_t)d * sizeof(float));
    else
        SHOAL_FN(from_bf16)(y, (const uint16_t *)(const void *)row + from, d);
}

/* 16 rows of the cache become [d_k][16]. Row chunks are decoded first, so the interleaving is the
 * same for all storage types. */
static void interleave_keys(float *k_tile, const unsigned char *cache, size_t row_bytes,
                            shoal_kv_dtype dtype, int32_t n_position, int32_t key0, int32_t d_k)
{
    for (int32_t c0 = 0; c0 < d_k; c0 += SHOAL_CHUNK) {
        float part[SHOAL_BAND][SHOAL_CHUNK];
        int32_t n = d_k - c0 < SHOAL_CHUNK ? d_k - c0 : SHOAL_CHUNK;
        for (int32_t p = 0; p < SHOAL_BAND; p++) {
            if (p < n_position)
                load_row(part[p], cache + (size_t)p * row_bytes, dtype, key0 + c0, n);
            else
                memset(part[p], 0, sizeof part[p]);
        }
        for (int32_t c = 0; c < n; c++) {
            for (int32_t p = 0; p < SHOAL_BAND; p++)
                k_tile[(c0 + c) * SHOAL_BAND + p] = part[p][c];
        }
    }
}

void SHOAL_FN(attend_tile)(float *k_tile, float *v_tile, const void *cache, size_t row_bytes,
                           shoal_kv_dtype dtype, int32_t n_position, int32_t key0, int32_t d_k,
                           int32_t value0, int32_t d_v)
{
    const unsigned char *row = cache;
    for (int32_t p0 = 0; p0 < POSITIONS; p0 += SHOAL_BAND) {
        float *band = k_tile + (size_t)p0 * (size_t)d_k;
        int32_t n = n_position - p0;
        if (n > 0)
            interleave_keys(band, row + (size_t)p0 * row_bytes, row_bytes, dtype, n, key0, d_k);
        else
            memset(band, 0, (size_t)SHOAL_BAND * (size_t)d_k * sizeof(float));
    }
    for (int32_t p = 0; p < n_position; p++)
        load_row(v_tile + (size_t)p * (size_t)d_v, row + (size_t)p * row_bytes, dtype, value0, d_v);
    memset(v_tile + (size_t)n_position * (size_t)d_v, 0,
           (size_t)(POSITIONS - n_position) * (size_t)d_v * sizeof(float));
}

/* Scores of one query become the weights p of its values, state and out move to the new maximum.
 * Masked positions take no part in the maximum and get exactly 0. */
static void update_state(float *p, float *out, shoal_attend_state *state, int32_t first,
                         int32_t last, float scale, int32_t d_v)
{
    for (int32_t i = 0; i < POSITIONS; i++)
        p[i] = i >= first && i < last ? p[i] * scale : -INFINITY;
    float block_max = shoal__max_row(p, POSITIONS);
    float max = state->max < block_max ? block_max : state->max;
    for (int32_t i = 0; i < POSITIONS; i++)
        p[i] = shoal__exp(p[i] - max);
    float shrink = shoal__exp(state->max - max);
    state->denom = fmaf(state->denom, shrink, shoal__sum_row(p, POSITIONS));
    state->max = max;
    for (int32_t d = 0; d < d_v; d++)
        out[d] *= shrink;
}

/* out[i] += sum over positions [first, last) in order of p[i] v, for queries with one range.
 * Only visible positions are touched: what else the tile holds cannot show. */
static void add_values(float *out, int64_t ld_out, float p[][POSITIONS], int32_t n_query,
                       int32_t first, int32_t last, const float *v_tile, int32_t d_v)
{
    const float *v = v_tile + (size_t)first * (size_t)d_v;
    int32_t n = last - first;
    int32_t d = 0;
    for (; d + SHOAL_BAND <= d_v; d += SHOAL_BAND)
        shoal__mac(out + d, ld_out, p[0] + first, POSITIONS, v + d, d_v, n, n_query);
    for (; d < d_v; d++) {
        for (int32_t i = 0; i < n_query; i++) {
            for (int32_t k = 0; k < n; k++) {
                float *y = out + i * ld_out + d;
                *y = fmaf(p[i][first + k], v[(int64_t)k * d_v + d], *y);
            }
        }
    }
}

void SHOAL_FN(attend_block)(float *out, int64_t ld_out, shoal_attend_state *state, const float *q,
                            int64_t ld_q, int32_t n_query, const int32_t *first,
                            const int32_t *last, float scale, const float *k_tile,
                            const float *v_tile, int32_t d_k, int32_t d_v)
{
    for (int32_t i = 0; i < n_query;) {
        int32_t lo = first[i] < 0 ? 0 : first[i];
        int32_t hi = last[i] > POSITIONS ? POSITIONS : last[i];
        int32_t n = 1;
        while (n < QUERIES && i + n < n_query && first[i + n] == first[i] && last[i + n] == last[i])
            n++;
        if (lo < hi) {
            _Alignas(64) float p[QUERIES][POSITIONS] = {{0}};
            for (int32_t p0 = lo - lo % SHOAL_BAND; p0 < hi; p0 += SHOAL_BAND)
                shoal__mac(p[0] + p0, POSITIONS, q + i * ld_q, ld_q,
                           k_tile + (size_t)p0 * (size_t)d_k, SHOAL_BAND, d_k, n);
            for (int32_t j = 0; j < n; j++)
                update_state(p[j], out + (i + j) * ld_out, &state[i + j], lo, hi, scale, d_v);
            add_values(out + i * ld_out, ld_out, p, n, lo, hi, v_tile, d_v);
        }
        i += n;
    }
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
