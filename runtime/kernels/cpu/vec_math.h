/* What softmax needs beyond fma, a register at a time and with the bits of scalar.h: largest, exp,
 * and the fixed tree over the 16 lanes of a row. Layering: inside runtime/kernels/cpu only. */
#ifndef SHOAL_KERNELS_CPU_VEC_MATH_H
#define SHOAL_KERNELS_CPU_VEC_MATH_H

#include "runtime/kernels/cpu/lanes.h"
#include "runtime/kernels/cpu/scalar.h"

typedef int32_t shoal__i32 __attribute__((vector_size(4 * SHOAL_LANES)));
typedef float shoal__f32x4 __attribute__((vector_size(16)));

SHOAL_INLINE shoal__vec shoal__vec_set(float x)
{
#if SHOAL_LANES == 16
    return (shoal__vec)_mm512_set1_ps(x);
#elif SHOAL_LANES == 8
    return (shoal__vec)_mm256_set1_ps(x);
#else
    return (shoal__vec){x, x, x, x};
#endif
}

/* a < b ? b : a: a where b is a NaN. */
SHOAL_INLINE shoal__vec shoal__vec_max(shoal__vec a, shoal__vec b)
{
#if SHOAL_LANES == 16
    return (shoal__vec)_mm512_max_ps((__m512)b, (__m512)a);
#elif SHOAL_LANES == 8
    return (shoal__vec)_mm256_max_ps((__m256)b, (__m256)a);
#else
    for (int32_t l = 0; l < SHOAL_LANES; l++)
        a[l] = a[l] < b[l] ? b[l] : a[l];
    return a;
#endif
}

/* a > b ? b : a. */
SHOAL_INLINE shoal__vec shoal__vec_min(shoal__vec a, shoal__vec b)
{
#if SHOAL_LANES == 16
    return (shoal__vec)_mm512_min_ps((__m512)b, (__m512)a);
#elif SHOAL_LANES == 8
    return (shoal__vec)_mm256_min_ps((__m256)b, (__m256)a);
#else
    for (int32_t l = 0; l < SHOAL_LANES; l++)
        a[l] = a[l] > b[l] ? b[l] : a[l];
    return a;
#endif
}

/* shoal__exp of every lane. A power of two is applied exactly but for one rounding, whether in two
 * factors or by scalef. Below -104 the result is 0, which is not left to a rounding: masked
 * positions are there, and on some CPUs a result that underflows takes 150 cycles. */
SHOAL_INLINE shoal__vec shoal__vec_exp(shoal__vec x)
{
    const shoal__vec magic = shoal__vec_set(0x1.8p23f), one = shoal__vec_set(1.0f);
#if SHOAL_LANES == 16
    const __mmask16 live =
        _mm512_cmp_ps_mask((__m512)x, (__m512)shoal__vec_set(-104.0f), _CMP_NLT_UQ);
#else
    const shoal__i32 live = ~(x < shoal__vec_set(-104.0f));
    x = (shoal__vec)((shoal__i32)x & live);
#endif
    x = shoal__vec_min(x, shoal__vec_set(100.0f));
    shoal__vec shifted = shoal__vec_fma_each(x, shoal__vec_set(0x1.715476p+0f), magic);
    shoal__vec n = shifted - magic;
    shoal__vec r = shoal__vec_fma_each(n, shoal__vec_set(-0x1.62e400p-1f), x);
    r = shoal__vec_fma_each(n, shoal__vec_set(-0x1.7f7d1cp-20f), r);
    shoal__vec p = shoal__vec_set(1.9875691500e-4f);
    p = shoal__vec_fma_each(p, r, shoal__vec_set(1.3981999507e-3f));
    p = shoal__vec_fma_each(p, r, shoal__vec_set(8.3334519073e-3f));
    p = shoal__vec_fma_each(p, r, shoal__vec_set(4.1665795894e-2f));
    p = shoal__vec_fma_each(p, r, shoal__vec_set(1.6666665459e-1f));
    p = shoal__vec_fma_each(p, r, shoal__vec_set(5.0000001201e-1f));
    p = one + shoal__vec_fma_each(p, r * r, r);
#if SHOAL_LANES == 16
    return (shoal__vec)_mm512_maskz_scalef_ps(live, (__m512)p, (__m512)n);
#else
    shoal__i32 k = (shoal__i32)shifted - (shoal__i32)magic;
    shoal__i32 k1 = k >> 1;
    p = p * (shoal__vec)((k1 + 127) << 23) * (shoal__vec)((k - k1 + 127) << 23);
    return (shoal__vec)((shoal__i32)p & live);
#endif
}

/* The 16 lanes of a row in SHOAL_PARTS registers, the first two rounds of the tree (8, 4) done. */
SHOAL_INLINE shoal__f32x4 shoal__fold(const shoal__vec *part, const bool largest)
{
#if SHOAL_LANES == 16
    __m512 v = (__m512)part[0];
    __m256 low = _mm512_castps512_ps256(v), high = _mm512_extractf32x8_ps(v, 1);
    low = largest ? _mm256_max_ps(high, low) : _mm256_add_ps(low, high);
#elif SHOAL_LANES == 8
    __m256 low = (__m256)part[0], high = (__m256)part[1];
    low = largest ? _mm256_max_ps(high, low) : _mm256_add_ps(low, high);
#endif
#if SHOAL_LANES > 4
    __m128 first = _mm256_castps256_ps128(low), second = _mm256_extractf128_ps(low, 1);
    return (shoal__f32x4)(largest ? _mm_max_ps(second, first) : _mm_add_ps(first, second));
#else
    shoal__vec a = largest ? shoal__vec_max(part[0], part[2]) : part[0] + part[2];
    shoal__vec b = largest ? shoal__vec_max(part[1], part[3]) : part[1] + part[3];
    return largest ? shoal__vec_max(a, b) : a + b;
#endif
}

SHOAL_INLINE float shoal__fold_sum(const shoal__vec *part)
{
    shoal__f32x4 v = shoal__fold(part, false);
    return (v[0] + v[2]) + (v[1] + v[3]);
}

SHOAL_INLINE float shoal__fold_max(const shoal__vec *part)
{
    shoal__f32x4 v = shoal__fold(part, true);
    float a = v[0] < v[2] ? v[2] : v[0];
    float b = v[1] < v[3] ? v[3] : v[1];
    return a < b ? b : a;
}

#endif
