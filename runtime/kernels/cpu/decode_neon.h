/* The loads of decode.h that gcc does not make good NEON instructions of. Layering: part of
 * decode.h. */
#ifndef SHOAL_KERNELS_CPU_DECODE_NEON_H
#define SHOAL_KERNELS_CPU_DECODE_NEON_H

#include "runtime/kernels/cpu/lanes.h"

#include <arm_neon.h>

SHOAL_INLINE shoal__u32 shoal__load_u8(const unsigned char *w)
{
    uint32_t four;
    memcpy(&four, w, sizeof four);
    uint8x8_t bytes = vreinterpret_u8_u32(vdup_n_u32(four));
    return (shoal__u32)vmovl_u16(vget_low_u16(vmovl_u8(bytes)));
}

SHOAL_INLINE shoal__vec shoal__load_f16(const unsigned char *w)
{
    uint16_t half[SHOAL_LANES];
    memcpy(half, w, sizeof half);
    return (shoal__vec)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(half)));
}

#endif
