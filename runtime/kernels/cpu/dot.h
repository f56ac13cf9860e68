/* Integer dot products of one group of 32 columns (matrix.h): what instruction sets do differently.
 * An integer sum is exact in any order, so it cannot be seen in a result which instructions make
 * it.
 *
 *     shoal__quads   four neighbouring columns of SHOAL_LANES rows: the register that a dot product
 *                    takes; a group has 8 of them per SHOAL_LANES rows
 *     shoal__ints    one int32 per row
 *
 * The plain form here is the reference; dot_x86.h and dot_neon.h replace it. Layering: inside
 * runtime/kernels/cpu only. */
#ifndef SHOAL_KERNELS_CPU_DOT_H
#define SHOAL_KERNELS_CPU_DOT_H

#include "runtime/kernels/cpu/decode.h"

enum {
    SHOAL__QUADS = SHOAL_GROUP / 4,
    SHOAL__QUAD_BYTES = 4 * SHOAL_BAND,          /* a quad of a whole band */
    SHOAL__TOGETHER = SHOAL_LANES == 16 ? 4 : 2, /* tokens whose sums are made side by side */
};

typedef int32_t shoal__ints __attribute__((vector_size(4 * SHOAL_LANES)));

/* Part p of the scales of the group at `at`; those of MXFP4 are 2^(e - 128), as its integers are
 * twice the values. */
SHOAL_INLINE shoal__vec shoal__group_scale(const unsigned char *at, int32_t p,
                                           const shoal_format format)
{
    return format == SHOAL_FORMAT_MXFP4 ? shoal__load_e8m0(at + SHOAL_LANES * p) * 0.5f
                                        : shoal__load_f16(at + 2 * SHOAL_LANES * p);
}

SHOAL_INLINE shoal__vec shoal__ints_to_f32(shoal__ints s)
{
    return __builtin_convertvector(s, shoal__vec);
}

#if SHOAL_LANES > 4
#include "runtime/kernels/cpu/dot_x86.h"
#elif defined(__ARM_FEATURE_DOTPROD)
#include "runtime/kernels/cpu/dot_neon.h"
#else

typedef int8_t shoal__quads __attribute__((vector_size(4 * SHOAL_LANES)));

/* The rows of part p of a group whose quads are at `at`, as signed integers. A call, like the next:
 * inlined, gcc would unroll them into hundreds of kilobytes. */
static __attribute__((noinline)) void shoal__unpack(shoal__quads w[SHOAL__QUADS],
                                                    const unsigned char *at, int32_t p,
                                                    const shoal_format format)
{
    typedef uint8_t codes __attribute__((vector_size(4 * SHOAL_LANES)));
    static const int8_t e2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    at += p * (int32_t)sizeof w[0];
    for (int32_t k = 0; k < SHOAL__QUADS; k++) {
        const bool high = format != SHOAL_FORMAT_Q8 && k >= SHOAL__QUADS / 2;
        codes code;
        memcpy(&code, at + (high ? k - SHOAL__QUADS / 2 : k) * SHOAL__QUAD_BYTES, sizeof code);
        codes nibble = high ? code >> 4 : code & 15;
        if (format == SHOAL_FORMAT_MXFP4) {
            uint8_t from[sizeof code];
            int8_t to[sizeof code];
            memcpy(from, &nibble, sizeof from);
            for (int32_t i = 0; i < (int32_t)sizeof code; i++)
                to[i] = e2m1[from[i]];
            memcpy(&w[k], to, sizeof to);
        } else {
            w[k] = (shoal__quads)(format == SHOAL_FORMAT_Q8 ? code - 128 : nibble - 8);
        }
    }
}

/* The sum of products per row. */
static __attribute__((noinline)) shoal__ints
shoal__dot(const shoal__quads w[SHOAL__QUADS], const shoal_int8_group *x, const shoal_format format)
{
    typedef int16_t product __attribute__((vector_size(8 * SHOAL_LANES)));
    typedef int32_t sum __attribute__((vector_size(16 * SHOAL_LANES)));
    (void)format;
    sum s = {0};
    for (int32_t k = 0; k < SHOAL__QUADS; k++) {
        int32_t four;
        memcpy(&four, x->q + 4 * k, sizeof four);
        shoal__quads columns = (shoal__quads)(four + (shoal__ints){0});
        s += __builtin_convertvector(__builtin_convertvector(w[k], product) *
                                         __builtin_convertvector(columns, product),
                                     sum);
    }
    shoal__ints row;
    for (int32_t l = 0; l < SHOAL_LANES; l++)
        row[l] = s[4 * l] + s[4 * l + 1] + s[4 * l + 2] + s[4 * l + 3];
    return row;
}

#endif

#if SHOAL_LANES == 4
SHOAL_INLINE bool shoal__prefetches_well(void)
{
    return true;
}
#endif

/* sum[i] = the dot products with *x[i], i < n <= SHOAL__TOGETHER. */
#if !defined(SHOAL__HAS_DOTS)
SHOAL_INLINE void shoal__dots(shoal__ints *sum, const shoal__quads w[SHOAL__QUADS],
                              const shoal_int8_group *const *x, const int32_t n,
                              const shoal_format format)
{
#pragma GCC unroll 4
    for (int32_t i = 0; i < n; i++)
        sum[i] = shoal__dot(w, x[i], format);
}
#endif

#endif
