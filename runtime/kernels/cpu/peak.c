/* The yardsticks of shoal bench: what this instruction set could do if a product were nothing but
 * its multiply-adds, and decoding nothing but loads. */
#include "runtime/kernels/cpu/lanes.h"

#if defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

/* The compiler takes v for changed, so that it does not see that all products are the same. */
#if defined(__x86_64__)
#define HIDE(v) __asm__("" : "+x"(v))
#elif defined(__aarch64__)
#define HIDE(v) __asm__("" : "+w"(v))
#else
#define HIDE(v) __asm__("" : "+m"(v))
#endif

enum { N_CHAIN = 12 }; /* independent sums: more than latency times units, less than registers */

uint64_t SHOAL_FN(peak_f32)(float sink[SHOAL_PEAK_SINK], int64_t n_round)
{
    shoal__vec sum[N_CHAIN], a = shoal__vec_load(sink), b = shoal__vec_load(sink + SHOAL_LANES);
    for (int32_t i = 0; i < N_CHAIN; i++)
        sum[i] = a + (float)i;
    for (int64_t round = 0; round < n_round; round++) {
#pragma GCC unroll 12
        for (int32_t i = 0; i < N_CHAIN; i++) {
            sum[i] = shoal__vec_fma_each(a, b, sum[i]);
            HIDE(a);
        }
    }
#pragma GCC unroll 12
    for (int32_t i = 1; i < N_CHAIN; i++)
        sum[0] += sum[i];
    shoal__vec_store(sink, sum[0]);
    return (uint64_t)n_round * N_CHAIN * SHOAL_LANES;
}

typedef int32_t ints __attribute__((vector_size(4 * SHOAL_LANES)));

/* Four products added to each int32, as matmul_int8 does it. */
SHOAL_INLINE ints dot(ints sum, ints w, ints x)
{
#if defined(__AVX512VNNI__)
    return (ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)x);
#elif defined(__AVXVNNI__)
    return (ints)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)w, (__m256i)x);
#elif defined(__AVX512BW__)
    const __m512i pairs = _mm512_maddubs_epi16((__m512i)w, (__m512i)x);
    return sum + (ints)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
#elif defined(__AVX2__)
    const __m256i pairs = _mm256_maddubs_epi16((__m256i)w, (__m256i)x);
    return sum + (ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#elif defined(__ARM_FEATURE_DOTPROD)
    return (ints)vdotq_s32((int32x4_t)sum, (int8x16_t)w, (int8x16_t)x);
#else
    int8_t a[sizeof w], b[sizeof x];
    memcpy(a, &w, sizeof a);
    memcpy(b, &x, sizeof b);
    for (int32_t l = 0; l < SHOAL_LANES; l++)
        for (int32_t j = 0; j < 4; j++)
            sum[l] += a[4 * l + j] * b[4 * l + j];
    return sum;
#endif
}

uint64_t SHOAL_FN(peak_int8)(int32_t sink[SHOAL_PEAK_SINK], int64_t n_round)
{
    ints sum[N_CHAIN], w, x;
    memcpy(&w, sink, sizeof w);
    memcpy(&x, sink + SHOAL_LANES, sizeof x);
#pragma GCC unroll 12
    for (int32_t i = 0; i < N_CHAIN; i++)
        sum[i] = w + i;
    for (int64_t round = 0; round < n_round; round++) {
#pragma GCC unroll 12
        for (int32_t i = 0; i < N_CHAIN; i++) {
            sum[i] = dot(sum[i], w, x);
            HIDE(w);
        }
    }
#pragma GCC unroll 12
    for (int32_t i = 1; i < N_CHAIN; i++)
        sum[0] ^= sum[i];
    memcpy(sink, &sum[0], sizeof sum[0]);
    return (uint64_t)n_round * N_CHAIN * SHOAL_LANES * 4;
}

uint64_t SHOAL_FN(peak_read)(const void *from, size_t n_bytes)
{
    enum { N_SUM = 8 };
    ints sum[N_SUM] = {{0}};
    const unsigned char *at = from;
    for (size_t i = 0; i + sizeof sum <= n_bytes; i += sizeof sum) {
#pragma GCC unroll 8
        for (size_t j = 0; j < N_SUM; j++) {
            ints v;
            memcpy(&v, at + i + j * sizeof v, sizeof v);
            sum[j] ^= v;
        }
    }
    uint64_t all = 0;
#pragma GCC unroll 8
    for (size_t j = 0; j < N_SUM; j++)
        for (int32_t l = 0; l < SHOAL_LANES; l++)
            all = all * 3 + (uint32_t)sum[j][l];
    return all;
}
