/* What stands between the two halves of an MLP, and rows as integers.
 *
 * activate   grid: a thread a value, 256 a block
 * to_groups  grid: 1,024 columns of a row a block of 256 threads, 4 neighbouring values a thread
 * bound      bytes read and written */
#include "runtime/kernels/cuda/groups.cuh"

namespace
{

enum { N_THREAD = 256, SLAB = N_THREAD / 32 * SHOAL__WARP_VALUES };

__device__ __forceinline__ float activated(float gate, float up, const shoal_activation &a)
{
    if (a.kind == SHOAL_ACTIVATION_SWIGLU_CLAMPED) {
        const float g = a.limit < gate ? a.limit : gate;
        float u = a.limit < up ? a.limit : up;
        u = u < -a.limit ? -a.limit : u;
        return (u + 1.0F) * (g / (1.0F + shoal_cuda_exp(-(a.alpha * g))));
    }
    return shoal_cuda_silu(gate) * up;
}

__global__ void __launch_bounds__(N_THREAD)
    activate(float *y, const float *gate, const float *up, int64_t n, shoal_activation a)
{
    const int64_t i = (int64_t)blockIdx.x * N_THREAD + (int64_t)threadIdx.x;
    if (i < n)
        y[i] = activated(gate[i], up[i], a);
}

/* up NULL: the rows of x as they are. */
__global__ void __launch_bounds__(N_THREAD)
    to_groups(shoal_int8_group *y, int64_t ld_y, shoal_cuda_rows x, const float *up,
              shoal_activation a)
{
    const int32_t n_slab = (x.n_col + SLAB - 1) / SLAB;
    const int64_t row = blockIdx.x / (uint32_t)n_slab;
    const int32_t c0 = (int32_t)(blockIdx.x % (uint32_t)n_slab) * SLAB +
                       (int32_t)threadIdx.x / 32 * SHOAL__WARP_VALUES;
    if (c0 >= x.n_col)
        return;
    const int32_t c = c0 + (int32_t)threadIdx.x % 32 * 4;
    float v[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        v[j] = c + j < x.n_col ? x.at[row * x.ld + c + j] : 0.0F;
        if (up != nullptr && c + j < x.n_col)
            v[j] = activated(v[j], up[row * x.ld + c + j], a);
    }
    const shoal__quad quad = shoal__to_int8(v);
    if (c / SHOAL_GROUP * SHOAL_GROUP < x.n_col)
        shoal__store_quad(y + row * ld_y, c, quad);
}

} // namespace

cudaError_t shoal_cuda_activate(float *y, const float *gate, const float *up, int64_t n,
                                const shoal_activation *activation, cudaStream_t stream)
{
    if (n <= 0)
        return cudaSuccess;
    SHOAL_LAUNCH(activate, dim3((unsigned)((n + N_THREAD - 1) / N_THREAD)), dim3(N_THREAD), 0,
                 stream, y, gate, up, n, *activation);
    return cudaGetLastError();
}

cudaError_t shoal_cuda_to_groups(shoal_int8_group *y, int64_t ld_y, shoal_cuda_rows x,
                                 const float *up, const shoal_activation *activation,
                                 cudaStream_t stream)
{
    const int64_t n = (int64_t)x.n_row * ((x.n_col + SLAB - 1) / SLAB);
    if (n <= 0)
        return cudaSuccess;
    SHOAL_LAUNCH(to_groups, dim3((unsigned)n), dim3(N_THREAD), 0, stream, y, ld_y, x, up,
                 activation != nullptr ? *activation : shoal_activation{});
    return cudaGetLastError();
}
