/* What attention does beside its blocks: values out of the keys of MLA, and the running state of a
 * query over segments, sinks and its end. */
#include "runtime/kernels/cpu/vec_math.h"

typedef uint16_t half8 __attribute__((vector_size(16)));

/* Elements of `size` halves from a and b in turn. */
SHOAL_INLINE void zip(half8 *low, half8 *high, half8 a, half8 b, const int32_t size)
{
    if (size == 1) {
        *low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
        *high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
    } else {
        *low = __builtin_shufflevector(a, b, 0, 1, 8, 9, 2, 3, 10, 11);
        *high = __builtin_shufflevector(a, b, 4, 5, 12, 13, 6, 7, 14, 15);
    }
}

/* n columns of n positions become n rows, n being what a register holds: rounds of pairing. Only
 * moves, so any instructions will do. */
SHOAL_INLINE void transpose(uint16_t *value, const uint16_t *key, int32_t n_band, int32_t d_k,
                            int32_t d_v, const int32_t size)
{
    const int32_t n = 8 / size, n_part = SHOAL_BAND / n;
    for (int32_t part = 0; part < n_part * n_band; part++) {
        const uint16_t *from =
            key + (int64_t)size * (part / n_part * d_k * SHOAL_BAND + part % n_part * n);
        uint16_t *to = value + (int64_t)size * part * n * d_v;
        int32_t d = 0;
        for (; d + n <= d_v; d += n) {
            half8 a[8], b[8];
            for (int32_t i = 0; i < n; i++)
                memcpy(&a[i], from + size * (d + i) * SHOAL_BAND, sizeof a[i]);
            for (int32_t round = n; round > 1; round /= 2) {
                for (int32_t i = 0; i < n / 2; i++)
                    zip(&b[2 * i], &b[2 * i + 1], a[i], a[i + n / 2], size);
                for (int32_t i = 0; i < n; i++)
                    a[i] = b[i];
            }
            for (int32_t i = 0; i < n; i++)
                memcpy(to + size * (i * d_v + d), &a[i], sizeof a[i]);
        }
        for (; d < d_v; d++) {
            for (int32_t i = 0; i < n; i++)
                memcpy(to + size * (i * d_v + d), from + size * (d * SHOAL_BAND + i),
                       (size_t)size * sizeof *to);
        }
    }
}

void SHOAL_FN(attend_values)(void *value, const void *key, shoal_kv_dtype dtype, int32_t n_position,
                             int32_t d_k, int32_t d_v)
{
    int32_t n_band = (n_position + SHOAL_BAND - 1) / SHOAL_BAND;
    if (dtype == SHOAL_KV_F32)
        transpose(value, key, n_band, d_k, d_v, 2);
    else
        transpose(value, key, n_band, d_k, d_v, 1);
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
