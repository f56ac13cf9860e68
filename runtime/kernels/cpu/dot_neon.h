/* dot.h with the instructions of NEON and its dot product extension, which takes signed bytes.
 * Layering: part of dot.h. */
#ifndef SHOAL_KERNELS_CPU_DOT_NEON_H
#define SHOAL_KERNELS_CPU_DOT_NEON_H

#include "runtime/kernels/cpu/decode.h"

typedef int8x16_t shoal__quads;

/* q of codes 0 .. 15; of MXFP4 twice the value. */
SHOAL_INLINE shoal__quads shoal__int4(uint8x16_t code, const shoal_format format)
{
    const int8x16_t e2m1 = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    return format == SHOAL_FORMAT_Q4 ? vsubq_s8(vreinterpretq_s8_u8(code), vdupq_n_s8(8))
                                     : vqtbl1q_s8(e2m1, code);
}

SHOAL_INLINE void shoal__unpack(shoal__quads w[SHOAL__QUADS], const unsigned char *at, int32_t p,
                                const shoal_format format)
{
    const int32_t n_load = format == SHOAL_FORMAT_Q8 ? SHOAL__QUADS : SHOAL__QUADS / 2;
    at += p * (int32_t)sizeof w[0];
#pragma GCC unroll 8
    for (int32_t k = 0; k < n_load; k++) {
        uint8x16_t bytes = vld1q_u8(at + k * SHOAL__QUAD_BYTES);
        if (format == SHOAL_FORMAT_Q8) {
            w[k] = vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(128)));
            continue;
        }
        w[k] = shoal__int4(vandq_u8(bytes, vdupq_n_u8(15)), format);
        w[SHOAL__QUADS / 2 + k] = shoal__int4(vshrq_n_u8(bytes, 4), format);
    }
}

SHOAL_INLINE shoal__ints shoal__dot(const shoal__quads w[SHOAL__QUADS], const shoal_int8_group *x,
                                    const shoal_format format)
{
    (void)format;
    const int8x16_t low = vld1q_s8(x->q), high = vld1q_s8(x->q + 16);
    int32x4_t sum = vdotq_laneq_s32(vdupq_n_s32(0), w[0], low, 0);
    sum = vdotq_laneq_s32(sum, w[1], low, 1);
    sum = vdotq_laneq_s32(sum, w[2], low, 2);
    sum = vdotq_laneq_s32(sum, w[3], low, 3);
    sum = vdotq_laneq_s32(sum, w[4], high, 0);
    sum = vdotq_laneq_s32(sum, w[5], high, 1);
    sum = vdotq_laneq_s32(sum, w[6], high, 2);
    return (shoal__ints)vdotq_laneq_s32(sum, w[7], high, 3);
}

#endif
