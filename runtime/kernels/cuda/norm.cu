/* Norms of rows. grid: a row a block; block 256 threads; shared 8 floats. Reads and writes a row of
 * f32 twice and once: bound by launching it for few rows, by memory for many. */
#include "runtime/kernels/cuda/kernels.cuh"
#include "runtime/kernels/cuda/numbers.cuh"

namespace
{

enum { N_THREAD = 256 };

__global__ void __launch_bounds__(N_THREAD)
    rms_norm(float *y, int64_t ld_y, shoal_cuda_rows x, const float *weight, float eps)
{
    SHOAL_SHARED(bytes);
    const float *from = x.at + (int64_t)blockIdx.x * x.ld;
    float *to = y + (int64_t)blockIdx.x * ld_y;
    float sum = 0.0F;
    for (int32_t c = (int32_t)threadIdx.x; c < x.n_col; c += N_THREAD)
        sum = fmaf(from[c], from[c], sum);
    const float mean = shoal_cuda_block_sum(sum, reinterpret_cast<float *>(bytes)) / (float)x.n_col;
    const float factor = 1.0F / sqrtf(mean + eps);
    for (int32_t c = (int32_t)threadIdx.x; c < x.n_col; c += N_THREAD)
        to[c] = weight[c] * (from[c] * factor);
}

} // namespace

cudaError_t shoal_cuda_rms_norm(float *y, int64_t ld_y, shoal_cuda_rows x, const float *weight,
                                float eps, cudaStream_t stream)
{
    if (x.n_row <= 0)
        return cudaSuccess;
    SHOAL_LAUNCH(rms_norm, dim3((unsigned)x.n_row), dim3(N_THREAD), N_THREAD / 32 * sizeof(float),
                 stream, y, ld_y, x, weight, eps);
    return cudaGetLastError();
}
