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

/* Adding 1.5 * 2^23 rounds half to even into the low bits. The clamp holds what a subnormal scale,
 * which has few bits, or an infinity makes of the quotient; a NaN ends as -127. */
static void encode_group(int8_t *q, float *scale, const float *x, int32_t n)
{
    const float magic = 0x1.8p23f;
    float amax = 0;
    for (int32_t i = 0; i < n; i++) {
        float a = fabsf(x[i]);
        amax = amax < a ? a : amax;
    }
    float s = amax / 127.0f;
    *scale = s;
    if (s == 0) {
        memset(q, 0, (size_t)n);
        return;
    }
    for (int32_t i = 0; i < n; i++) {
        float v = x[i] / s;
        v = v >= -127.0f ? v : -127.0f;
        v = v <= 127.0f ? v : 127.0f;
        q[i] = (int8_t)(int32_t)(shoal__bits(v + magic) - shoal__bits(magic));
    }
}

void SHOAL_FN(to_int8)(int8_t *q, float *scale, const float *x, int64_t n)
{
    int64_t i = 0;
    for (; i + SHOAL_GROUP <= n; i += SHOAL_GROUP)
        encode_group(q + i, scale + i / SHOAL_GROUP, x + i, SHOAL_GROUP);
    if (i < n)
        encode_group(q + i, scale + i / SHOAL_GROUP, x + i, (int32_t)(n - i));
}

void SHOAL_FN(to_groups)(shoal_int8_group *y, const float *x, int32_t n_col)
{
    for (int32_t i = 0; i < n_col; i += SHOAL_GROUP, y++) {
        if (n_col - i < SHOAL_GROUP) {
            memset(y->q, 0, sizeof y->q);
            encode_group(y->q, &y->scale, x + i, n_col - i);
        } else {
            encode_group(y->q, &y->scale, x + i, SHOAL_GROUP);
        }
        int32_t sum = 0;
        for (int32_t j = 0; j < SHOAL_GROUP; j++)
            sum += y->q[j];
        y->sum = sum;
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
