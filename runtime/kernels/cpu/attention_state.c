/* What attention does beside its blocks: values out of the keys of MLA, and the running state of a
 * query over segments, sinks and its end. */
#include "runtime/kernels/cpu/vec_math.h"

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
