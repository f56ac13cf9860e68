/* Packed weights as f32 registers, for the products that decode on the way and for those that
 * decode a block first. Decoding is exact, so which instructions do it cannot be seen in a result:
 * this is where variants differ in source (decode_x86.h, decode_neon.h). Layering: inside
 * runtime/kernels/cpu only. */
#ifndef SHOAL_KERNELS_CPU_DECODE_H
#define SHOAL_KERNELS_CPU_DECODE_H

#include "runtime/kernels/cpu/lanes.h"

/* What lies at a step of a band: a column, a pair of them (e4m3), or a quad, whose bytes the two
 * halves of a group of Q4 or MXFP4 share. */
typedef enum shoal__codec {
    SHOAL__F32,
    SHOAL__F16,
    SHOAL__BF16,
    SHOAL__E4M3,
    SHOAL__INT8,
    SHOAL__INT4_LOW,
    SHOAL__INT4_HIGH,
    SHOAL__E2M1_LOW,
    SHOAL__E2M1_HIGH,
} shoal__codec;

SHOAL_INLINE int32_t shoal__step_columns(const shoal__codec codec)
{
    return codec < SHOAL__E4M3 ? 1 : codec == SHOAL__E4M3 ? 2 : 4;
}

SHOAL_INLINE size_t shoal__step_bytes(const shoal__codec codec)
{
    bool half = codec == SHOAL__F16 || codec == SHOAL__BF16 || codec == SHOAL__E4M3;
    return SHOAL_BAND * (half ? 2 : 4);
}

typedef uint32_t shoal__u32 __attribute__((vector_size(4 * SHOAL_LANES)));

typedef int16_t shoal__halves __attribute__((vector_size(2 * SHOAL_BAND)));

SHOAL_INLINE shoal__u32 shoal__load_u32(const unsigned char *w)
{
    shoal__u32 v;
    memcpy(&v, w, sizeof v);
    return v;
}

/* Of the formats in quads: bytes of a group of a band, and of the scales it begins with. */
SHOAL_INLINE size_t shoal__group_bytes(const shoal_format format)
{
    return format == SHOAL_FORMAT_Q8   ? SHOAL_Q8_GROUP_BYTES
           : format == SHOAL_FORMAT_Q4 ? SHOAL_Q4_GROUP_BYTES
                                       : SHOAL_MXFP4_GROUP_BYTES;
}

SHOAL_INLINE size_t shoal__group_scale_bytes(const shoal_format format)
{
    return SHOAL_BAND * (format == SHOAL_FORMAT_MXFP4 ? 1 : sizeof(uint16_t));
}

#if SHOAL_LANES > 4
#include "runtime/kernels/cpu/decode_x86.h"
#else

SHOAL_INLINE shoal__u32 shoal__load_u16(const unsigned char *w)
{
    uint16_t half[SHOAL_LANES];
    memcpy(half, w, sizeof half);
    return (shoal__u32){half[0], half[1], half[2], half[3]};
}

#if defined(__ARM_FEATURE_DOTPROD)
#include "runtime/kernels/cpu/decode_neon.h"
#else

SHOAL_INLINE shoal__u32 shoal__load_u8(const unsigned char *w)
{
    return (shoal__u32){w[0], w[1], w[2], w[3]};
}

/* The value bits are shifted to where f32 has them and the exponent is re-biased. A subnormal gets
 * the smallest normal exponent instead, whose implied one is then subtracted: exact, and without
 * subnormal operands, which are slow. */
SHOAL_INLINE shoal__vec shoal__load_f16(const unsigned char *w)
{
    shoal__u32 half = shoal__load_u16(w);
    shoal__u32 magnitude = half & 0x7fffu;
    shoal__u32 subnormal = (shoal__u32)(magnitude < 0x0400u);
    shoal__u32 bits = (magnitude << 13) + (112u << 23) + (subnormal & 1u << 23);
    bits += (shoal__u32)(magnitude >= 0x7c00u) & 112u << 23;                     /* infinity, NaN */
    shoal__vec value = (shoal__vec)bits - (shoal__vec)(subnormal & 0x38800000u); /* 2^-14 */
    return (shoal__vec)((shoal__u32)value | (half & 0x8000u) << 16);
}

#endif

SHOAL_INLINE void shoal__halves_to_f32(shoal__vec v[SHOAL_PARTS], shoal__halves halves)
{
    unsigned char w[sizeof halves];
    memcpy(w, &halves, sizeof w);
    for (int32_t p = 0; p < SHOAL_PARTS; p++)
        v[p] = shoal__load_f16(w + 2 * SHOAL_LANES * p);
}

SHOAL_INLINE shoal__vec shoal__load_bf16(const unsigned char *w)
{
    return (shoal__vec)(shoal__load_u16(w) << 16);
}

/* The low four bits of each lane. As f16: the two smallest codes lack the implied one. */
SHOAL_INLINE shoal__vec shoal__e2m1(shoal__u32 code)
{
    shoal__u32 subnormal = (shoal__u32)((code & 7) < 2);
    shoal__u32 bits = ((code & 7) << 22) + (126u << 23) + (subnormal & 1u << 23);
    shoal__vec value = (shoal__vec)bits - (shoal__vec)(subnormal & 0x3f800000u); /* 1 */
    return (shoal__vec)((shoal__u32)value | (code & 8) << 28);
}

#endif

/* Byte j of each lane's four. 2^23 + b is the float of these bits. */
SHOAL_INLINE shoal__vec shoal__decode_quad(const shoal__codec codec, shoal__u32 quad,
                                           const int32_t j)
{
    switch (codec) {
    case SHOAL__INT4_LOW:
        return (shoal__vec)((quad >> (8 * j) & 15u) | 0x4b000000u) - (0x1p23f + 8);
    case SHOAL__INT4_HIGH:
        return (shoal__vec)((quad >> (8 * j + 4) & 15u) | 0x4b000000u) - (0x1p23f + 8);
    case SHOAL__E2M1_LOW:
        return shoal__e2m1(quad >> (8 * j));
    case SHOAL__E2M1_HIGH:
        return shoal__e2m1(quad >> (8 * j + 4));
    default:
        return (shoal__vec)((quad >> (8 * j) & 255u) | 0x4b000000u) - (0x1p23f + 128);
    }
}

/* 2^(e - 127) of a byte e below 255; 2^-127 is subnormal. */
SHOAL_INLINE shoal__vec shoal__load_e8m0(const unsigned char *w)
{
    shoal__u32 e = shoal__load_u8(w);
    return (shoal__vec)(e << 23 | ((shoal__u32)(e == 0) & 1u << 22));
}

/* Column j of a pair: w / 2^8, by way of f16, whose conversion takes subnormals at full speed. The
 * sign and the value bits of a word's low or high byte are moved to where f16 has them. A NaN
 * becomes a number. */
SHOAL_INLINE void shoal__load_e4m3(shoal__vec v[SHOAL_PARTS], const unsigned char *w,
                                   const int32_t j)
{
    shoal__halves pair;
    memcpy(&pair, w, sizeof pair);
    if (j == 0)
        pair <<= 8;
    shoal__halves_to_f32(v, pair >> 1 & (int16_t)0xbf80);
}

/* Column j of a step, 16 rows. */
SHOAL_INLINE void shoal__decode(shoal__vec v[SHOAL_PARTS], const shoal__codec codec,
                                const unsigned char *w, const int32_t j)
{
    if (codec == SHOAL__E4M3) {
        shoal__load_e4m3(v, w, j);
        return;
    }
#pragma GCC unroll 4
    for (int32_t p = 0; p < SHOAL_PARTS; p++) {
        const unsigned char *at = w + (size_t)p * (shoal__step_bytes(codec) / SHOAL_PARTS);
        v[p] = codec == SHOAL__F32    ? (shoal__vec)shoal__load_u32(at)
               : codec == SHOAL__F16  ? shoal__load_f16(at)
               : codec == SHOAL__BF16 ? shoal__load_bf16(at)
                                      : shoal__decode_quad(codec, shoal__load_u32(at), j);
    }
}

#endif
