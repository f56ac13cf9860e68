/* dot.h with the instructions of AVX2, AVX-VNNI and AVX-512 VNNI. They multiply unsigned by signed
 * bytes, so the weights are kept unsigned, a constant too large; sums begin with the negative of
 * what that adds, a multiple of shoal_int8_group.minus_8_sum. Layering: part of dot.h. */
#ifndef SHOAL_KERNELS_CPU_DOT_X86_H
#define SHOAL_KERNELS_CPU_DOT_X86_H

#include "runtime/kernels/cpu/decode.h"

/* A test puts the EVEX form of the same instruction here, for CPUs that have only that. */
#if defined(__AVXVNNI__) && !defined(SHOAL__DPBUSD_256)
#define SHOAL__DPBUSD_256 _mm256_dpbusd_avx_epi32
#endif

#if SHOAL_LANES == 16 || defined(SHOAL__DPBUSD_256)
#define SHOAL__VNNI 1
#else
#define SHOAL__VNNI 0
#endif

/* Whether the CPU by itself reads weights as fast as one token uses them (measured: AMD Zen 4 does,
 * Intel Cascade Lake does not). */
SHOAL_INLINE bool shoal__prefetches_well(void)
{
    return !__builtin_cpu_is("intel");
}

typedef uint8_t shoal__quads __attribute__((vector_size(4 * SHOAL_LANES)));

SHOAL_INLINE shoal__ints shoal__splat(int32_t x)
{
#if SHOAL_LANES == 16
    return (shoal__ints)_mm512_set1_epi32(x);
#else
    return (shoal__ints)_mm256_set1_epi32(x);
#endif
}

/* Columns 4k .. 4k + 3 of x for every row. */
SHOAL_INLINE shoal__ints shoal__splat_quad(const shoal_int8_group *x, int32_t k)
{
    int32_t four;
    memcpy(&four, x->q + 4 * k, sizeof four);
    return shoal__splat(four);
}

/* 2 * e2m1 + 16 of codes 0 .. 15. */
SHOAL_INLINE shoal__quads shoal__e2m1_unsigned(shoal__quads code)
{
    const __m128i value =
        _mm_setr_epi8(16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4);
#if SHOAL_LANES == 16
    return (shoal__quads)_mm512_shuffle_epi8(_mm512_broadcast_i32x4(value), (__m512i)code);
#else
    return (shoal__quads)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(value), (__m256i)code);
#endif
}

/* What the sum of a group begins with: weights are too large by 128, 8 or 16. */
SHOAL_INLINE shoal__ints shoal__begin(const shoal_int8_group *x, const shoal_format format)
{
    const int32_t eights = format == SHOAL_FORMAT_Q8 ? 16 : format == SHOAL_FORMAT_Q4 ? 1 : 2;
    return shoal__splat(x->minus_8_sum * eights);
}

SHOAL_INLINE void shoal__unpack(shoal__quads w[SHOAL__QUADS], const unsigned char *at, int32_t p,
                                const shoal_format format)
{
    at += p * (int32_t)sizeof w[0];
    const int32_t n_load = format == SHOAL_FORMAT_Q8 ? SHOAL__QUADS : SHOAL__QUADS / 2;
#pragma GCC unroll 8
    for (int32_t k = 0; k < n_load; k++) {
        memcpy(&w[k], at + k * SHOAL__QUAD_BYTES, sizeof w[k]);
        if (format == SHOAL_FORMAT_Q8)
            continue;
        shoal__quads *high = &w[SHOAL__QUADS / 2 + k];
        *high = (shoal__quads)((shoal__u32)w[k] >> 4) & 15;
        w[k] &= 15;
        if (format == SHOAL_FORMAT_MXFP4) {
            w[k] = shoal__e2m1_unsigned(w[k]);
            *high = shoal__e2m1_unsigned(*high);
        }
    }
}

#if SHOAL__VNNI

/* sum + w * (columns 4k .. 4k + 3 of x). gcc 12 does not make the broadcast part of the instruction
 * by itself, which is a third of all that the decoders see. Volatile keeps chains side by side as
 * they are written. */
SHOAL_INLINE shoal__ints shoal__dpbusd(shoal__ints sum, shoal__quads w, const shoal_int8_group *x,
                                       int32_t k)
{
#if SHOAL_LANES == 16
    typedef struct quad {
        int8_t q[4];
    } quad;
    __asm__ volatile("vpdpbusd %2%{1to16%}, %1, %0"
                     : "+v"(sum)
                     : "v"(w), "m"(*(const quad *)(const void *)(x->q + 4 * k)));
    return sum;
#else
    return (shoal__ints)SHOAL__DPBUSD_256((__m256i)sum, (__m256i)w,
                                          (__m256i)shoal__splat_quad(x, k));
#endif
}

#define SHOAL__HAS_DOTS

/* An addition waits for the one before it: the chains of all tokens, and two of one alone, run side
 * by side. */
SHOAL_INLINE void shoal__dots(shoal__ints *sum, const shoal__quads w[SHOAL__QUADS],
                              const shoal_int8_group *const *x, const int32_t n,
                              const shoal_format format)
{
    const int32_t n_chain = n == 1 ? 2 : 1, run = SHOAL__QUADS / n_chain;
    shoal__ints chain[2][SHOAL__TOGETHER];
#pragma GCC unroll 4
    for (int32_t i = 0; i < n; i++) {
        chain[0][i] = shoal__begin(x[i], format);
        chain[1][i] = (shoal__ints){0};
    }
#pragma GCC unroll 8
    for (int32_t k = 0; k < run; k++) {
#pragma GCC unroll 2
        for (int32_t c = 0; c < n_chain; c++) {
#pragma GCC unroll 4
            for (int32_t i = 0; i < n; i++)
                chain[c][i] = shoal__dpbusd(chain[c][i], w[c * run + k], x[i], c * run + k);
        }
    }
#pragma GCC unroll 4
    for (int32_t i = 0; i < n; i++)
        sum[i] = n_chain == 2 ? chain[0][i] + chain[1][i] : chain[0][i];
}

#else

SHOAL_INLINE __m256i shoal__pairs(__m256i w, __m256i x)
{
    return _mm256_maddubs_epi16(w, x);
}

SHOAL_INLINE __m256i shoal__widen(__m256i pairs)
{
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* |q| <= 128 times x with q's sign: x is never -128, so this is exact for every q. */
SHOAL_INLINE shoal__ints shoal__dot_q8(const shoal__quads w[SHOAL__QUADS],
                                       const shoal_int8_group *x)
{
    __m256i sum = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int32_t k = 0; k < SHOAL__QUADS; k++) {
        __m256i q = _mm256_xor_si256((__m256i)w[k], _mm256_set1_epi8(-128));
        __m256i signed_x = _mm256_sign_epi8((__m256i)shoal__splat_quad(x, k), q);
        __m256i pairs = shoal__pairs(_mm256_abs_epi8(q), signed_x);
        sum = _mm256_add_epi32(sum, shoal__widen(pairs));
    }
    return (shoal__ints)sum;
}

SHOAL_INLINE shoal__ints shoal__dot(const shoal__quads w[SHOAL__QUADS], const shoal_int8_group *x,
                                    const shoal_format format)
{
    if (format == SHOAL_FORMAT_Q8)
        return shoal__dot_q8(w, x);
    enum { RUN = 4 }; /* quads whose sum 16 bits hold: 4 * 2 * 28 * 127 at most */
    shoal__ints sum = shoal__begin(x, format);
#pragma GCC unroll 2
    for (int32_t k0 = 0; k0 < SHOAL__QUADS; k0 += RUN) {
        __m256i pairs = shoal__pairs((__m256i)w[k0], (__m256i)shoal__splat_quad(x, k0));
#pragma GCC unroll 3
        for (int32_t k = k0 + 1; k < k0 + RUN; k++)
            pairs = _mm256_add_epi16(pairs,
                                     shoal__pairs((__m256i)w[k], (__m256i)shoal__splat_quad(x, k)));
        sum += (shoal__ints)shoal__widen(pairs);
    }
    return sum;
}

#endif

#endif
