/* Functions of one number, the CPU's formulas (cpu/scalar.h) with its fma's: device code is
 * compiled without contraction, so they give the CPU's bits. Layering: inside kernels/cuda only. */
#ifndef SHOAL_KERNELS_CUDA_NUMBERS_CUH
#define SHOAL_KERNELS_CUDA_NUMBERS_CUH

#include "runtime/kernels/cuda/ptx.cuh"

/* e^x as shoal__exp. */
static __device__ __forceinline__ float shoal_cuda_exp(float x)
{
    const float magic = 0x1.8p23F;
    x = x < -110.0F ? -110.0F : x;
    x = x > 100.0F ? 100.0F : x;
    const float shifted = fmaf(x, 0x1.715476p+0F, magic);
    const float n = shifted - magic;
    float r = fmaf(n, -0x1.62e400p-1F, x);
    r = fmaf(n, -0x1.7f7d1cp-20F, r);
    float p = 1.9875691500e-4F;
    p = fmaf(p, r, 1.3981999507e-3F);
    p = fmaf(p, r, 8.3334519073e-3F);
    p = fmaf(p, r, 4.1665795894e-2F);
    p = fmaf(p, r, 1.6666665459e-1F);
    p = fmaf(p, r, 5.0000001201e-1F);
    p = 1.0F + fmaf(p, r * r, r);
    const int32_t k = (int32_t)(__float_as_uint(shifted) - __float_as_uint(magic)), k1 = k >> 1;
    return p * __uint_as_float((uint32_t)(k1 + 127) << 23) *
           __uint_as_float((uint32_t)(k - k1 + 127) << 23);
}

static __device__ __forceinline__ float shoal_cuda_sigmoid(float x)
{
    return 1.0F / (1.0F + shoal_cuda_exp(-x));
}

static __device__ __forceinline__ float shoal_cuda_silu(float x)
{
    return x / (1.0F + shoal_cuda_exp(-x));
}

/* Over all lanes of a warp, in every lane. */
static __device__ __forceinline__ float shoal_cuda_warp_sum(float x)
{
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2)
        x += __shfl_xor_sync(0xffffffffU, x, apart);
    return x;
}

static __device__ __forceinline__ float shoal_cuda_warp_max(float x)
{
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) {
        const float other = __shfl_xor_sync(0xffffffffU, x, apart);
        x = x < other ? other : x;
    }
    return x;
}

/* Over a block of whole warps, in every thread; room: a float for each warp, in shared memory. */
static __device__ __forceinline__ float shoal_cuda_block_sum(float x, float *room)
{
    x = shoal_cuda_warp_sum(x);
    if (threadIdx.x % 32 == 0)
        room[threadIdx.x / 32] = x;
    __syncthreads();
    float sum = room[0];
    for (int warp = 1; warp < (int)blockDim.x / 32; warp++)
        sum += room[warp];
    __syncthreads();
    return sum;
}

#endif
