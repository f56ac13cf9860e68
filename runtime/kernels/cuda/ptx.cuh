/* What needs words of PTX: tensor-core products, asynchronous copies, a few conversions. Each has a
 * twin for the host that says in plain C what the instruction does (PTX ISA, section named beside
 * it); the emulation runs the twins. The one header that may have both.
 *
 * Fragments of mma.m16n8k16 and m16n8k32 (PTX ISA 9.7.14): with g = lane / 4 and t = lane % 4
 *     A [16, K] row-major   words a[0..3]: rows g, g+8, g, g+8; columns of word: first half of K
 *                           for a[0], a[1], second for a[2], a[3]; t-th word of 4 bytes in it
 *     B [K, 8] column-major b[0..1]: column g; t-th word of the first / second half of K
 *     C, D [16, 8]          d[0..3]: (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1)
 * Layering: kernels. */
#ifndef SHOAL_KERNELS_CUDA_PTX_CUH
#define SHOAL_KERNELS_CUDA_PTX_CUH

#include "runtime/kernels/cuda/launch.cuh"

#include <stdint.h>

static __device__ __forceinline__ float shoal_cuda_from_bf16(uint16_t bits)
{
    return __uint_as_float((uint32_t)bits << 16);
}

/* Round to nearest even; a NaN stays one. */
static __device__ __forceinline__ uint16_t shoal_cuda_to_bf16(float value)
{
    uint32_t bits = __float_as_uint(value);
    if ((bits & 0x7fffffffU) > 0x7f800000U)
        return (uint16_t)(bits >> 16 | 0x40U);
    return (uint16_t)((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

/* Two values as a word of bf16, `low` in the low half. */
static __device__ __forceinline__ uint32_t shoal_cuda_bf16_pair(float low, float high)
{
    return (uint32_t)shoal_cuda_to_bf16(low) | (uint32_t)shoal_cuda_to_bf16(high) << 16;
}

#if defined(__CUDACC__)

/* cvt.f32.f16 (9.7.9.21): exact. */
static __device__ __forceinline__ float shoal_cuda_from_f16(uint16_t bits)
{
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

/* d = a b + c in f32, a and b of bf16 (9.7.14.5.14). */
static __device__ __forceinline__ void shoal_cuda_mma_bf16(float d[4], const uint32_t a[4],
                                                           const uint32_t b[2], const float c[4])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
                 : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]),
                   "f"(c[1]), "f"(c[2]), "f"(c[3]));
}

/* d = a b + c in s32, exact, a and b of signed bytes (9.7.14.5.14). */
static __device__ __forceinline__ void shoal_cuda_mma_int8(int32_t d[4], const uint32_t a[4],
                                                           const uint32_t b[2], const int32_t c[4])
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(c[0]),
                   "r"(c[1]), "r"(c[2]), "r"(c[3]));
}

/* 16 bytes from global to shared memory, both aligned to 16, there once its group was waited for
 * and the block has met (9.7.9.25). */
static __device__ __forceinline__ void shoal_cuda_copy_async_16(void *shared, const void *global)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                     static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
                 "l"(global)
                 : "memory");
}

static __device__ __forceinline__ void shoal_cuda_copy_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Until at most N groups of this thread are under way. */
template <int N> static __device__ __forceinline__ void shoal_cuda_copy_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#else

static inline float shoal_cuda_from_f16(uint16_t bits)
{
    const uint32_t sign = (uint32_t)(bits & 0x8000U) << 16;
    const uint32_t exponent = bits >> 10 & 31U, fraction = bits & 1023U;
    if (exponent == 31)
        return __uint_as_float(sign | 0x7f800000U | fraction << 13);
    if (exponent == 0) {
        const float value = (float)fraction * 0x1p-24F;
        return sign != 0 ? -value : value;
    }
    return __uint_as_float(sign | (exponent + 112U) << 23 | fraction << 13);
}

/* What a lane brings to a product of fragments. */
struct shoal__mma {
    uint32_t a[4], b[2];
    float c[4], d[4];
    int32_t ci[4], di[4];
};

/* Word of A at (row, word of K) and of B at (word of K, column), of 8 words in K. */
static inline uint32_t shoal__mma_a(void *const lane[32], int row, int word)
{
    const shoal__mma *m = static_cast<const shoal__mma *>(lane[row % 8 * 4 + word % 4]);
    return m->a[word / 4 * 2 + row / 8];
}

static inline uint32_t shoal__mma_b(void *const lane[32], int word, int column)
{
    return static_cast<const shoal__mma *>(lane[column * 4 + word % 4])->b[word / 4];
}

/* The tensor cores' order of adding is not documented; here it is columns in order, in f32. */
static inline void shoal__mma_resolve_bf16(void *const lane[32], unsigned)
{
    for (int l = 0; l < 32; l++) {
        shoal__mma *m = static_cast<shoal__mma *>(lane[l]);
        for (int i = 0; i < 4; i++) {
            const int row = l / 4 + i / 2 * 8, column = l % 4 * 2 + i % 2;
            float sum = m->c[i];
            for (int word = 0; word < 8; word++) {
                const uint32_t a = shoal__mma_a(lane, row, word);
                const uint32_t b = shoal__mma_b(lane, word, column);
                sum =
                    fmaf(shoal_cuda_from_bf16((uint16_t)a), shoal_cuda_from_bf16((uint16_t)b), sum);
                sum = fmaf(shoal_cuda_from_bf16((uint16_t)(a >> 16)),
                           shoal_cuda_from_bf16((uint16_t)(b >> 16)), sum);
            }
            m->d[i] = sum;
        }
    }
}

static inline void shoal__mma_resolve_int8(void *const lane[32], unsigned)
{
    for (int l = 0; l < 32; l++) {
        shoal__mma *m = static_cast<shoal__mma *>(lane[l]);
        for (int i = 0; i < 4; i++) {
            const int row = l / 4 + i / 2 * 8, column = l % 4 * 2 + i % 2;
            int32_t sum = m->ci[i];
            for (int word = 0; word < 8; word++)
                sum = __dp4a((int)shoal__mma_a(lane, row, word),
                             (int)shoal__mma_b(lane, word, column), sum);
            m->di[i] = sum;
        }
    }
}

static inline void shoal_cuda_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2],
                                       const float c[4])
{
    shoal__mma m;
    memcpy(m.a, a, sizeof m.a);
    memcpy(m.b, b, sizeof m.b);
    memcpy(m.c, c, sizeof m.c);
    emu_warp_meet("mma.bf16", 0xffffffffU, &m, shoal__mma_resolve_bf16);
    memcpy(d, m.d, sizeof m.d);
}

static inline void shoal_cuda_mma_int8(int32_t d[4], const uint32_t a[4], const uint32_t b[2],
                                       const int32_t c[4])
{
    shoal__mma m;
    memcpy(m.a, a, sizeof m.a);
    memcpy(m.b, b, sizeof m.b);
    memcpy(m.ci, c, sizeof m.ci);
    emu_warp_meet("mma.int8", 0xffffffffU, &m, shoal__mma_resolve_int8);
    memcpy(d, m.di, sizeof m.di);
}

static inline void shoal_cuda_copy_async_16(void *shared, const void *global)
{
    emu_async_copy(shared, global, 16);
}

static inline void shoal_cuda_copy_async_commit()
{
    emu_async_commit();
}

template <int N> static inline void shoal_cuda_copy_async_wait()
{
    emu_async_wait(N);
}

#endif

#endif
