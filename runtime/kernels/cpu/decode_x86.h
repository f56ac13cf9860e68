/* decode.h with the instructions of AVX2 and AVX-512, which gcc does not find by itself.
 * Layering: part of decode.h. */
#ifndef SHOAL_KERNELS_CPU_DECODE_X86_H
#define SHOAL_KERNELS_CPU_DECODE_X86_H

#include "runtime/kernels/cpu/lanes.h"

/* Loads of as many bytes or halves as there are lanes, widened. */
#if SHOAL_LANES == 16
SHOAL_INLINE shoal__vec shoal__load_f16(const unsigned char *w)
{
    return (shoal__vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i_u *)w));
}
SHOAL_INLINE shoal__u32 shoal__load_u16(const unsigned char *w)
{
    return (shoal__u32)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i_u *)w));
}
SHOAL_INLINE shoal__u32 shoal__load_u8(const unsigned char *w)
{
    return (shoal__u32)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i_u *)w));
}
SHOAL_INLINE void shoal__halves_to_f32(shoal__vec v[SHOAL_PARTS], shoal__halves halves)
{
    v[0] = (shoal__vec)_mm512_cvtph_ps((__m256i)halves);
}
#else
SHOAL_INLINE shoal__vec shoal__load_f16(const unsigned char *w)
{
    return (shoal__vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i_u *)w));
}
SHOAL_INLINE shoal__u32 shoal__load_u16(const unsigned char *w)
{
    return (shoal__u32)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i_u *)w));
}
SHOAL_INLINE shoal__u32 shoal__load_u8(const unsigned char *w)
{
    return (shoal__u32)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i_u *)w));
}
SHOAL_INLINE void shoal__halves_to_f32(shoal__vec v[SHOAL_PARTS], shoal__halves halves)
{
    v[0] = (shoal__vec)_mm256_cvtph_ps(_mm256_castsi256_si128((__m256i)halves));
    v[1] = (shoal__vec)_mm256_cvtph_ps(_mm256_extracti128_si256((__m256i)halves, 1));
}
#endif

SHOAL_INLINE shoal__vec shoal__load_bf16(const unsigned char *w)
{
    return (shoal__vec)(shoal__load_u16(w) << 16);
}

/* The low four bits of each lane: a table where it fits a register, or half of it with the sign
 * apart. */
SHOAL_INLINE shoal__vec shoal__e2m1(shoal__u32 code)
{
#if SHOAL_LANES == 16
    const shoal__vec value = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                              -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
    return (shoal__vec)_mm512_permutexvar_ps((__m512i)code, (__m512)value);
#else
    const shoal__vec value = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
    shoal__vec magnitude = (shoal__vec)_mm256_permutevar8x32_ps((__m256)value, (__m256i)code);
    return (shoal__vec)((shoal__u32)magnitude | (code & 8) << 28);
#endif
}

#endif
