/* The yardstick of memory: bytes read and made nothing of. grid: as the caller says, 512 threads a
 * block, 16 bytes a thread at a time, neighbours lie together; bound by memory. */
#include "runtime/kernels/cuda/kernels.cuh"

namespace
{

enum { N_THREAD = 512, AHEAD = 4 };

__global__ void __launch_bounds__(N_THREAD) read_all(uint32_t *sink, const uint4 *from, size_t n)
{
    const size_t stride = (size_t)gridDim.x * N_THREAD;
    uint32_t all = 0;
    for (size_t at = (size_t)blockIdx.x * N_THREAD + threadIdx.x; at < n; at += AHEAD * stride) {
        uint4 some[AHEAD] = {};
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            if (at + i * stride < n)
                some[i] = from[at + i * stride];
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            all ^= some[i].x ^ some[i].y ^ some[i].z ^ some[i].w;
    }
    if (all == 0x5eed5eedU) /* the compiler cannot know that it hardly ever is */
        *sink = all;
}

} // namespace

cudaError_t shoal_cuda_read(uint32_t *sink, const void *from, size_t n_bytes, int32_t n_block,
                            cudaStream_t stream)
{
    SHOAL_LAUNCH(read_all, dim3((unsigned)n_block), dim3(N_THREAD), 0, stream, sink,
                 static_cast<const uint4 *>(from), n_bytes / sizeof(uint4));
    return cudaGetLastError();
}
