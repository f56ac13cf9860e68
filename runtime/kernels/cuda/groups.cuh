/* Int8 groups of 32 values on a warp: a lane has 4 neighbouring values, 8 lanes a group, a warp 4
 * groups. Layering: inside kernels/cuda only. */
#ifndef SHOAL_KERNELS_CUDA_GROUPS_CUH
#define SHOAL_KERNELS_CUDA_GROUPS_CUH

#include "runtime/kernels/cuda/kernels.cuh"
#include "runtime/kernels/cuda/numbers.cuh"

enum {
    SHOAL__WARP_VALUES = 4 * SHOAL_GROUP, /* of a warp */
    SHOAL__GROUP_LANES = SHOAL_GROUP / 4
};

/* 4 values as integers, a byte each, with their group's scale and sum of all 32 integers. */
struct shoal__quad {
    uint32_t word;
    float scale;
    int32_t sum;
};

/* All lanes of a warp together; what is behind a row is 0. The formulas are cpu/wire.c's: floats
 * without their signs are ordered as integers, a NaN does not count, and becomes -127. */
static __device__ __forceinline__ shoal__quad shoal__to_int8(const float v[4])
{
    uint32_t largest = 0;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const uint32_t bits = __float_as_uint(v[j]) & 0x7fffffffU;
        largest = bits <= 0x7f800000U && bits > largest ? bits : largest;
    }
#pragma unroll
    for (int apart = SHOAL__GROUP_LANES / 2; apart > 0; apart /= 2) {
        const uint32_t other = __shfl_xor_sync(0xffffffffU, largest, apart);
        largest = largest < other ? other : largest;
    }
    const float magic = 0x1.8p23F;
    shoal__quad quad = {0, __uint_as_float(largest) / 127.0F, 0};
    if (quad.scale != 0.0F) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float x = v[j] / quad.scale;
            x = x > -127.0F ? x : -127.0F;
            x = x < 127.0F ? x : 127.0F;
            const int32_t q = (int32_t)(__float_as_uint(x + magic) - __float_as_uint(magic));
            quad.word |= ((uint32_t)q & 0xffU) << 8 * j;
            quad.sum += q;
        }
    }
#pragma unroll
    for (int apart = SHOAL__GROUP_LANES / 2; apart > 0; apart /= 2)
        quad.sum += __shfl_xor_sync(0xffffffffU, quad.sum, apart);
    return quad;
}

/* Integer j of a word. */
static __device__ __forceinline__ int32_t shoal__integer(uint32_t word, int j)
{
    return (int32_t)(int8_t)(word >> 8 * j);
}

/* The lane's part of a row's groups, its first value being column c. */
static __device__ __forceinline__ void shoal__store_quad(shoal_int8_group *row, int32_t c,
                                                         const shoal__quad &quad)
{
    shoal_int8_group *to = row + c / SHOAL_GROUP;
    const int32_t in = c % SHOAL_GROUP;
    reinterpret_cast<uint32_t *>(to->q)[in / 4] = quad.word;
    if (in == 0) {
        to->scale = quad.scale;
        to->minus_8_sum = -8 * quad.sum;
    }
}

#endif
