#include "runtime/kernels/cpu/scalar.h"

void SHOAL_FN(to_bf16)(uint16_t *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = shoal__bits(x[i]);
        uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
        uint32_t quiet = bits >> 16 | 0x40u; /* rounding could carry a NaN into infinity */
        y[i] = (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
    }
}

void SHOAL_FN(from_bf16)(float *y, const uint16_t *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = shoal__from_bf16(x[i]);
}

void SHOAL_FN(axpy_bf16)(float *restrict y, float a, const uint16_t *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = fmaf(a, shoal__from_bf16(x[i]), y[i]);
}

/* Adding 1.5 * 2^23 rounds half to even into the low bits. The clamp holds what a subnormal scale,
 * which has few bits, or an infinity makes of the quotient; a NaN ends as -127. Without their signs
 * floats are ordered as integers, whose largest may be found in any order. */
SHOAL_INLINE float encode_group(int8_t q[SHOAL_GROUP], const float x[SHOAL_GROUP])
{
    const float magic = 0x1.8p23f;
    uint32_t magnitude[SHOAL_GROUP], amax = 0;
    for (int32_t i = 0; i < SHOAL_GROUP; i++) {
        uint32_t bits = shoal__bits(x[i]) & 0x7fffffffu;
        magnitude[i] = bits > 0x7f800000u ? 0 : bits;
    }
    for (int32_t i = 0; i < SHOAL_GROUP; i++)
        amax = amax < magnitude[i] ? magnitude[i] : amax;
    float s = shoal__float(amax) / 127.0f;
    if (s == 0) {
        memset(q, 0, SHOAL_GROUP);
        return s;
    }
    for (int32_t i = 0; i < SHOAL_GROUP; i++) {
        float v = x[i] / s;
        v = v > -127.0f ? v : -127.0f;
        v = v < 127.0f ? v : 127.0f;
        q[i] = (int8_t)(int32_t)(shoal__bits(v + magic) - shoal__bits(magic));
    }
    return s;
}

/* The same for the n < 32 values of a last group. Zeros do not change its scale. */
static float encode_short(int8_t q[SHOAL_GROUP], const float *x, int64_t n)
{
    float filled[SHOAL_GROUP] = {0};
    memcpy(filled, x, (size_t)n * sizeof *x);
    return encode_group(q, filled);
}

void SHOAL_FN(to_int8)(int8_t *q, float *scale, const float *x, int64_t n)
{
    int64_t i = 0;
    for (; i + SHOAL_GROUP <= n; i += SHOAL_GROUP)
        *scale++ = encode_group(q + i, x + i);
    if (i < n) {
        int8_t last[SHOAL_GROUP];
        *scale = encode_short(last, x + i, n - i);
        memcpy(q + i, last, (size_t)(n - i));
    }
}

void SHOAL_FN(to_groups)(shoal_int8_group *y, const float *x, int32_t n_col)
{
    for (int32_t i = 0; i < n_col; i += SHOAL_GROUP, y++) {
        y->scale = n_col - i < SHOAL_GROUP ? encode_short(y->q, x + i, n_col - i)
                                           : encode_group(y->q, x + i);
        int32_t sum = 0;
        for (int32_t c = 0; c < SHOAL_GROUP; c++)
            sum += y->q[c];
        y->minus_8_sum = -8 * sum;
    }
}

void SHOAL_FN(from_int8)(float *y, const int8_t *q, const float *scale, int64_t n)
{
    for (int64_t i0 = 0; i0 < n; i0 += SHOAL_GROUP) {
        int64_t end = n - i0 < SHOAL_GROUP ? n : i0 + SHOAL_GROUP;
        float s = scale[i0 / SHOAL_GROUP];
        for (int64_t i = i0; i < end; i++)
            y[i] = s * (float)q[i];
    }
}
