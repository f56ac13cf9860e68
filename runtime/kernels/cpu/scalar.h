/* Scalar pieces of the specification: bit casts, our exp, the fixed trees over 16 lanes. Written
 * without branches, so that loops over them vectorise and every lane does the same operations.
 * Layering: inside runtime/kernels/cpu only. */
#ifndef SHOAL_KERNELS_CPU_SCALAR_H
#define SHOAL_KERNELS_CPU_SCALAR_H

#include "runtime/kernels/cpu/variant.h"

#include <math.h>
#include <string.h>

#define SHOAL_SUM_LANES 16

/* Elementwise loops work through a local array of this many values: the result may overwrite the
 * input without the compiler having to fall back to one element at a time. Longer than what gcc
 * unrolls completely, as it vectorises loops, not their unrolled bodies. */
#define SHOAL_CHUNK 64

SHOAL_INLINE uint32_t shoal__bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

SHOAL_INLINE float shoal__float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* e^x within 2 ulp, subnormal results included; -infinity gives 0, above 88.73 infinity.
 * x = n ln2 + r, |r| <= ln2 / 2; adding 1.5 * 2^23 rounds to the integer n and leaves it in the low
 * bits. 2^n is applied in two factors, as it may lie outside the range of a normal float. */
SHOAL_INLINE float shoal__exp(float x)
{
    const float magic = 0x1.8p23f;
    x = x < -110.0f ? -110.0f : x;
    x = x > 100.0f ? 100.0f : x;
    float shifted = fmaf(x, 0x1.715476p+0f, magic);
    float n = shifted - magic;
    float r = fmaf(n, -0x1.62e400p-1f, x); /* exact: this part of ln2 has 15 bits */
    r = fmaf(n, -0x1.7f7d1cp-20f, r);
    float p = 1.9875691500e-4f;
    p = fmaf(p, r, 1.3981999507e-3f);
    p = fmaf(p, r, 8.3334519073e-3f);
    p = fmaf(p, r, 4.1665795894e-2f);
    p = fmaf(p, r, 1.6666665459e-1f);
    p = fmaf(p, r, 5.0000001201e-1f);
    p = 1.0f + fmaf(p, r * r, r);
    int32_t k = (int32_t)(shoal__bits(shifted) - shoal__bits(magic));
    int32_t k1 = k >> 1;
    uint32_t factor1 = (uint32_t)(k1 + 127) << 23;
    uint32_t factor2 = (uint32_t)(k - k1 + 127) << 23;
    return p * shoal__float(factor1) * shoal__float(factor2);
}

SHOAL_INLINE float shoal__sigmoid(float x)
{
    return 1.0f / (1.0f + shoal__exp(-x));
}

SHOAL_INLINE float shoal__silu(float x)
{
    return x / (1.0f + shoal__exp(-x));
}

SHOAL_INLINE float shoal__swiglu_clamped(float gate, float up, float alpha, float limit)
{
    float g = limit < gate ? limit : gate;
    float u = limit < up ? limit : up;
    u = u < -limit ? -limit : u;
    return (u + 1.0f) * (g / (1.0f + shoal__exp(-(alpha * g))));
}

SHOAL_INLINE float shoal__from_bf16(uint16_t x)
{
    return shoal__float((uint32_t)x << 16);
}

/* The tree 8 4 2 1. lane is overwritten. */
SHOAL_INLINE float shoal__sum_lanes(float lane[SHOAL_SUM_LANES])
{
    for (int32_t half = SHOAL_SUM_LANES / 2; half >= 1; half /= 2) {
        for (int32_t l = 0; l < half; l++)
            lane[l] += lane[l + half];
    }
    return lane[0];
}

SHOAL_INLINE float shoal__max_lanes(float lane[SHOAL_SUM_LANES])
{
    for (int32_t half = SHOAL_SUM_LANES / 2; half >= 1; half /= 2) {
        for (int32_t l = 0; l < half; l++)
            lane[l] = lane[l] < lane[l + half] ? lane[l + half] : lane[l];
    }
    return lane[0];
}

/* Sum of n values: lane l adds elements l, l + 16, ... in order. */
SHOAL_INLINE float shoal__sum_row(const float *x, int32_t n)
{
    float lane[SHOAL_SUM_LANES] = {0};
    int32_t i = 0;
    for (; i + SHOAL_SUM_LANES <= n; i += SHOAL_SUM_LANES) {
        for (int32_t l = 0; l < SHOAL_SUM_LANES; l++)
            lane[l] += x[i + l];
    }
    for (int32_t l = 0; i + l < n; l++)
        lane[l] += x[i + l];
    return shoal__sum_lanes(lane);
}

/* Largest of n values, NaN ignored; -infinity for n = 0. */
SHOAL_INLINE float shoal__max_row(const float *x, int32_t n)
{
    float lane[SHOAL_SUM_LANES];
    for (int32_t l = 0; l < SHOAL_SUM_LANES; l++)
        lane[l] = -INFINITY;
    int32_t i = 0;
    for (; i + SHOAL_SUM_LANES <= n; i += SHOAL_SUM_LANES) {
        for (int32_t l = 0; l < SHOAL_SUM_LANES; l++)
            lane[l] = lane[l] < x[i + l] ? x[i + l] : lane[l];
    }
    for (int32_t l = 0; i + l < n; l++)
        lane[l] = lane[l] < x[i + l] ? x[i + l] : lane[l];
    return shoal__max_lanes(lane);
}

#endif
