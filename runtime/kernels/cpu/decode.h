/* Packed weights as f32 registers, for the products that decode on the way and for those that
 * decode a block first. Decoding is exact, so which instructions do it cannot be seen in a result:
 * this is where variants differ in source (decode_x86.h, decode_neon.h). Layering: inside
 * runtime/kernels/cpu only. */
#ifndef SHOAL_KERNELS_CPU_DECODE_H
#define SHOAL_KERNELS_CPU_DECODE_H

#include "runtime/kernels/cpu/lanes.h"

/* What lies at a column of a band, or in a byte of a quad: the two halves of a group of Q4 or MXFP4
 * share their bytes. */
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

typedef uint32_t shoal__u32 __attribute__((vector_size(4 * SHOAL_LANES)));

SHOAL_INLINE shoal__u32 shoal__load_quad(const unsigned char *w)
{
    shoal__u32 quad;
    memcpy(&quad, w, sizeof quad);
    return quad;
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

SHOAL_INLINE size_t shoal__codec_bytes(const shoal__codec codec)
{
    return codec == SHOAL__F32 ? 4 : codec == SHOAL__F16 || codec == SHOAL__BF16 ? 2 : 1;
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

SHOAL_INLINE shoal__vec shoal__load_bf16(const unsigned char *w)
{
    return (shoal__vec)(shoal__load_u16(w) << 16);
}

/* e4m3 has so few subnormals that it pays to let the multiplication normalise them. */
SHOAL_INLINE shoal__vec shoal__load_e4m3(const unsigned char *w)
{
    shoal__u32 byte = shoal__load_u8(w);
    shoal__u32 magnitude = byte << 20 & 0x07f00000u;
    magnitude |= (shoal__u32)(magnitude == 0x07f00000u) & 0x7fc00000u; /* NaN */
    return (shoal__vec)(magnitude | (byte << 24 & 0x80000000u)) * 0x1p120f;
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

/* One register of the formats without groups; w: what lies at its first lane. */
SHOAL_INLINE shoal__vec shoal__decode(const shoal__codec codec, const unsigned char *w)
{
    switch (codec) {
    case SHOAL__F16:
        return shoal__load_f16(w);
    case SHOAL__BF16:
        return shoal__load_bf16(w);
    case SHOAL__E4M3:
        return shoal__load_e4m3(w);
    default:
        break;
    }
    shoal__vec v;
    memcpy(&v, w, sizeof v);
    return v;
}

#endif
