/* Elementwise: a thread an element, 256 a block; bound by memory. */
#include "runtime/kernels/cuda/kernels.cuh"
#include "runtime/kernels/cuda/numbers.cuh"

namespace
{

enum { N_THREAD = 256 };

__device__ __forceinline__ int64_t element()
{
    return (int64_t)blockIdx.x * N_THREAD + (int64_t)threadIdx.x;
}

dim3 grid_of(int64_t n)
{
    return dim3((unsigned)((n + N_THREAD - 1) / N_THREAD));
}

__global__ void __launch_bounds__(N_THREAD)
    activate(float *y, const float *gate, const float *up, int64_t n, shoal_cuda_activation a)
{
    const int64_t i = element();
    if (i >= n)
        return;
    if (a.limit > 0.0F) {
        const float g = a.limit < gate[i] ? a.limit : gate[i];
        float u = a.limit < up[i] ? a.limit : up[i];
        u = u < -a.limit ? -a.limit : u;
        y[i] = (u + 1.0F) * (g / (1.0F + shoal_cuda_exp(-(a.alpha * g))));
    } else {
        y[i] = shoal_cuda_silu(gate[i]) * up[i];
    }
}

__global__ void __launch_bounds__(N_THREAD) axpy(float *y, float a, const float *x, int64_t n)
{
    const int64_t i = element();
    if (i < n)
        y[i] = fmaf(a, x[i], y[i]);
}

} // namespace

cudaError_t shoal_cuda_activate(float *y, const float *gate, const float *up, int64_t n,
                                shoal_cuda_activation activation, cudaStream_t stream)
{
    if (n == 0)
        return cudaSuccess;
    SHOAL_LAUNCH(activate, grid_of(n), dim3(N_THREAD), 0, stream, y, gate, up, n, activation);
    return cudaGetLastError();
}

cudaError_t shoal_cuda_axpy(float *y, float a, const float *x, int64_t n, cudaStream_t stream)
{
    if (n == 0)
        return cudaSuccess;
    SHOAL_LAUNCH(axpy, grid_of(n), dim3(N_THREAD), 0, stream, y, a, x, n);
    return cudaGetLastError();
}
