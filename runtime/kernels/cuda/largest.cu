/* The largest logits of each row (ops.h). A block a row, 256 threads; each keeps the first, in the
 * order of shoal_logit, of every 256th value. k times the first of all threads is written, and the
 * thread that had it looks for its next one. Shared: a logit for each warp. Bytes: 4 n_vocab read
 * once, and 4 n_vocab / 256 for each further of the k. Bound by memory for k = 1, then by the
 * latency of the rounds. */
#include "runtime/kernels/cuda/kernels.cuh"

namespace
{

enum { N_THREAD = 256 };

__device__ __forceinline__ bool comes_before(shoal_logit a, shoal_logit b)
{
    return a.value > b.value || (a.value == b.value && a.token < b.token);
}

/* The first of this thread's values that come after `after`; the last possible if there is none. */
__device__ shoal_logit next_of(const float *x, int32_t n, shoal_logit after)
{
    shoal_logit best = {-INFINITY, INT32_MAX};
    for (int32_t i = (int32_t)threadIdx.x; i < n; i += N_THREAD) {
        const float value = x[i];
        const shoal_logit one = {value == value ? value : -INFINITY, i};
        if (comes_before(after, one) && comes_before(one, best))
            best = one;
    }
    return best;
}

/* The first of all threads', in every thread. */
__device__ shoal_logit first_of(shoal_logit x, shoal_logit *part)
{
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2) {
        const shoal_logit other = {__shfl_xor_sync(0xffffffffU, x.value, apart),
                                   __shfl_xor_sync(0xffffffffU, x.token, apart)};
        x = comes_before(other, x) ? other : x;
    }
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = x;
    __syncthreads();
    for (int warp = 0; warp < N_THREAD / 32; warp++)
        x = comes_before(part[warp], x) ? part[warp] : x;
    __syncthreads();
    return x;
}

__global__ void __launch_bounds__(N_THREAD) largest(shoal_largest l)
{
    SHOAL_SHARED(bytes);
    shoal_logit *part = reinterpret_cast<shoal_logit *>(bytes);
    const float *x = l.logits + (int64_t)blockIdx.x * l.n_vocab;
    shoal_logit *out = l.out + (int64_t)blockIdx.x * l.k;
    shoal_logit mine = next_of(x, l.n_vocab, {INFINITY, -1});
    for (int32_t j = 0; j < l.k; j++) {
        const shoal_logit top = first_of(mine, part);
        if (threadIdx.x == 0)
            out[j] = {x[top.token], top.token};
        if (top.token % N_THREAD == (int32_t)threadIdx.x)
            mine = next_of(x, l.n_vocab, top);
    }
}

} // namespace

cudaError_t shoal_cuda_largest(const shoal_largest *l, cudaStream_t stream)
{
    if (l->n_row == 0)
        return cudaSuccess;
    SHOAL_LAUNCH(largest, dim3((unsigned)l->n_row), dim3(N_THREAD),
                 N_THREAD / 32 * sizeof(shoal_logit), stream, *l);
    return cudaGetLastError();
}
