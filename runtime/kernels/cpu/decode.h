/* Packed weights as f32 registers, for the products that decode on the way and for those that
 * decode a block first. Decoding is exact, so which instructions do it cannot be seen in a result:
 * this is the one place where variants differ in source (decode_x86.h). Layering: inside
 * runtime/kernels/cpu only. */
#ifndef SHOAL_KERNELS_CPU_DECODE_H
#define SHOAL_KERNELS_CPU_DECODE_H

#include "runtime/kernels/cpu/lanes.h"

/* What lies at a column of a band. The two halves of an MXFP4 group share their bytes. */
typedef enum shoal__codec {
    SHOAL__F32,
    SHOAL__F16,
    SHOAL__BF16,
    SHOAL__E4M3,
    SHOAL__E2M1_LOW,
    SHOAL__E2M1_HIGH,
} shoal__codec;

SHOAL_INLINE size_t shoal__codec_bytes(const shoal__codec codec)
{
    return codec == SHOAL__F32 ? 4 : codec == SHOAL__F16 || codec == SHOAL__BF16 ? 2 : 1;
}

#if SHOAL_LANES > 4
#include "runtime/kernels/cpu/decode_x86.h"
#else

typedef uint32_t shoal__u32 __attribute__((vector_size(4 * SHOAL_LANES)));

SHOAL_INLINE shoal__u32 shoal__load_u16(const unsigned char *w)
{
    uint16_t half[SHOAL_LANES];
    memcpy(half, w, sizeof half);
    return (shoal__u32){half[0], half[1], half[2], half[3]};
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

SHOAL_INLINE shoal__vec shoal__load_bf16(const unsigned char *w)
{
    return (shoal__vec)(shoal__load_u16(w) << 16);
}

/* e4m3 has so few subnormals that it pays to let the multiplication normalise them. */
SHOAL_INLINE shoal__vec shoal__load_e4m3(const unsigned char *w)
{
    shoal__u32 byte = {w[0], w[1], w[2], w[3]};
    shoal__u32 magnitude = byte << 20 & 0x07f00000u;
    magnitude |= (shoal__u32)(magnitude == 0x07f00000u) & 0x7fc00000u; /* NaN */
    return (shoal__vec)(magnitude | (byte << 24 & 0x80000000u)) * 0x1p120f;
}

/* As f16: the two smallest codes lack the implied one. */
SHOAL_INLINE shoal__vec shoal__load_e2m1(const unsigned char *w, const int32_t shift)
{
    shoal__u32 byte = {w[0], w[1], w[2], w[3]};
    shoal__u32 code = byte >> shift & 15;
    shoal__u32 subnormal = (shoal__u32)((code & 7) < 2);
    shoal__u32 bits = ((code & 7) << 22) + (126u << 23) + (subnormal & 1u << 23);
    shoal__vec value = (shoal__vec)bits - (shoal__vec)(subnormal & 0x3f800000u); /* 1 */
    return (shoal__vec)((shoal__u32)value | (code & 8) << 28);
}

#endif

/* One register; w: what lies at its first lane. */
SHOAL_INLINE shoal__vec shoal__decode(const shoal__codec codec, const unsigned char *w)
{
    switch (codec) {
    case SHOAL__F16:
        return shoal__load_f16(w);
    case SHOAL__BF16:
        return shoal__load_bf16(w);
    case SHOAL__E4M3:
        return shoal__load_e4m3(w);
    case SHOAL__E2M1_LOW:
        return shoal__load_e2m1(w, 0);
    case SHOAL__E2M1_HIGH:
        return shoal__load_e2m1(w, 4);
    case SHOAL__F32:
        break;
    }
    shoal__vec v;
    memcpy(&v, w, sizeof v);
    return v;
}

#endif
