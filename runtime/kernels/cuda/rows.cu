/* Rows moved and scaled on the device. Values: a thread each, 256 a block. gather: 1,024 columns of
 * a row a block of 256 threads. All bound by bytes read and written, or by launching them. */
#include "runtime/kernels/cuda/groups.cuh"

namespace
{

enum { N_THREAD = 256, SLAB = N_THREAD / 32 * SHOAL__WARP_VALUES };

__device__ __forceinline__ int64_t element()
{
    return (int64_t)blockIdx.x * N_THREAD + (int64_t)threadIdx.x;
}

dim3 grid_of(int64_t n)
{
    return dim3((unsigned)((n + N_THREAD - 1) / N_THREAD));
}

__global__ void __launch_bounds__(N_THREAD) scale(float *y, float a, int64_t n)
{
    const int64_t i = element();
    if (i < n)
        y[i] *= a;
}

__global__ void __launch_bounds__(N_THREAD)
    add_residual(float *x, const float *acc, const float *shared, float a, int64_t n)
{
    const int64_t i = element();
    if (i < n)
        x[i] = fmaf(a, shared != nullptr ? acc[i] + shared[i] : acc[i], x[i]);
}

__global__ void __launch_bounds__(N_THREAD)
    gate_rows(float *y, const float *gate, int32_t n_row, int32_t n_col)
{
    const int64_t i = element();
    if (i < (int64_t)n_row * n_col)
        y[i] *= shoal_cuda_sigmoid(gate[i / n_col]);
}

/* A warp's 128 columns of a row, from column c0 on. */
__device__ void gather_f32(const shoal_gather &g, int64_t to, int64_t from, int32_t c0)
{
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int32_t c = c0 + (int32_t)threadIdx.x % 32 + 32 * j;
        if (c < g.n_col)
            g.f32[to * g.n_col + c] = g.from.f32[from * g.n_col + c];
    }
}

__device__ void gather_int8(const shoal_gather &g, int64_t to, int64_t from, int32_t c0)
{
    enum { WORDS = sizeof(shoal_int8_group) / 4 };
    const int32_t n_group = (g.n_col + SHOAL_GROUP - 1) / SHOAL_GROUP, lane = threadIdx.x % 32;
    shoal_int8_group *row = g.int8 + to * n_group;
    if (g.from.int8 == nullptr) {
        const int32_t c = c0 + lane * 4;
        float v[4];
#pragma unroll
        for (int j = 0; j < 4; j++)
            v[j] = c + j < g.n_col ? g.from.f32[from * g.n_col + c + j] : 0.0F;
        const shoal__quad quad = shoal__to_int8(v);
        if (c / SHOAL_GROUP < n_group)
            shoal__store_quad(row, c, quad);
        return;
    }
    const uint32_t *in = reinterpret_cast<const uint32_t *>(g.from.int8 + from * n_group);
    uint32_t *out = reinterpret_cast<uint32_t *>(row);
    const int32_t first = c0 / SHOAL_GROUP * WORDS, left = n_group * WORDS - first;
    for (int32_t i = lane; i < 4 * WORDS && i < left; i += 32)
        out[first + i] = in[first + i];
}

__global__ void __launch_bounds__(N_THREAD) gather(shoal_gather g)
{
    const int32_t n_slab = (g.n_col + SLAB - 1) / SLAB;
    const int32_t i = (int32_t)(blockIdx.x / (uint32_t)n_slab);
    const int32_t c0 = (int32_t)(blockIdx.x % (uint32_t)n_slab) * SLAB +
                       (int32_t)threadIdx.x / 32 * SHOAL__WARP_VALUES;
    if (c0 >= g.n_col)
        return;
    const int64_t to = g.to != nullptr ? g.to[i] : i, from = g.row[i];
    if (g.f32 != nullptr)
        gather_f32(g, to, from, c0);
    if (g.int8 != nullptr)
        gather_int8(g, to, from, c0);
}

} // namespace

cudaError_t shoal_cuda_scale(float *y, float a, int64_t n, cudaStream_t stream)
{
    if (n <= 0)
        return cudaSuccess;
    SHOAL_LAUNCH(scale, grid_of(n), dim3(N_THREAD), 0, stream, y, a, n);
    return cudaGetLastError();
}

cudaError_t shoal_cuda_add_residual(float *x, const float *acc, const float *shared,
                                    float multiplier, int64_t n, cudaStream_t stream)
{
    if (n <= 0)
        return cudaSuccess;
    SHOAL_LAUNCH(add_residual, grid_of(n), dim3(N_THREAD), 0, stream, x, acc, shared, multiplier,
                 n);
    return cudaGetLastError();
}

cudaError_t shoal_cuda_gate_rows(float *y, const float *gate, int32_t n_row, int32_t n_col,
                                 cudaStream_t stream)
{
    const int64_t n = (int64_t)n_row * n_col;
    if (n <= 0)
        return cudaSuccess;
    SHOAL_LAUNCH(gate_rows, grid_of(n), dim3(N_THREAD), 0, stream, y, gate, n_row, n_col);
    return cudaGetLastError();
}

cudaError_t shoal_cuda_gather(const shoal_gather *g, cudaStream_t stream)
{
    const int64_t n = (int64_t)g->n_row * ((g->n_col + SLAB - 1) / SLAB);
    if (n <= 0)
        return cudaSuccess;
    SHOAL_LAUNCH(gather, dim3((unsigned)n), dim3(N_THREAD), 0, stream, *g);
    return cudaGetLastError();
}
