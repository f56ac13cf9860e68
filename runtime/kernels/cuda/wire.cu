/* Rows between f32 and what travels. A warp a group of 32 values, 8 warps a block: bound by memory,
 * which may be the host's, reached over PCIe in pieces of 32 to 128 bytes that lie together. */
#include "runtime/kernels/cuda/kernels.cuh"
#include "runtime/kernels/cuda/numbers.cuh"

namespace
{

enum { N_THREAD = 256, N_WARP = N_THREAD / 32 };

__device__ __forceinline__ int32_t lane_of()
{
    return (int32_t)threadIdx.x % 32;
}

/* Number of this warp among all. */
__device__ __forceinline__ int64_t warp_of()
{
    return (int64_t)blockIdx.x * N_WARP + (int64_t)threadIdx.x / 32;
}

dim3 grid_of(int64_t n_warp)
{
    return dim3((unsigned)((n_warp + N_WARP - 1) / N_WARP));
}

__device__ __forceinline__ int32_t groups_of(int32_t n_col)
{
    return (n_col + SHOAL_GROUP - 1) / SHOAL_GROUP;
}

__global__ void __launch_bounds__(N_THREAD)
    to_groups(shoal_int8_group *y, int64_t ld_y, shoal_cuda_rows x)
{
    const int32_t n_group = groups_of(x.n_col);
    const int64_t row = warp_of() / n_group;
    const int32_t g = (int32_t)(warp_of() % n_group), c = g * SHOAL_GROUP + lane_of();
    if (row >= x.n_row)
        return;
    const float value = c < x.n_col ? x.at[row * x.ld + c] : 0.0F;
    const float size = fabsf(value), largest = shoal_cuda_warp_max(size == size ? size : 0.0F);
    const float scale = largest / 127.0F, magic = 0x1.8p23F;
    int32_t q = 0;
    if (scale != 0.0F) {
        float v = value / scale;
        v = v > -127.0F ? v : -127.0F;
        v = v < 127.0F ? v : 127.0F;
        q = (int32_t)(__float_as_uint(v + magic) - __float_as_uint(magic));
    }
    int32_t sum = q;
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2)
        sum += __shfl_xor_sync(0xffffffffU, sum, apart);
    shoal_int8_group *to = y + row * ld_y + g;
    to->q[lane_of()] = (int8_t)q;
    if (lane_of() == 0) {
        to->scale = scale;
        to->minus_8_sum = -8 * sum;
    }
}

__global__ void __launch_bounds__(N_THREAD) to_bf16(uint16_t *to, shoal_cuda_rows x)
{
    const int64_t i = (int64_t)blockIdx.x * N_THREAD + (int64_t)threadIdx.x;
    if (i < (int64_t)x.n_row * x.n_col)
        to[i] = shoal_cuda_to_bf16(x.at[i / x.n_col * x.ld + i % x.n_col]);
}

__global__ void __launch_bounds__(N_THREAD) from_bf16(shoal_cuda_rows y, const uint16_t *from)
{
    const int64_t i = (int64_t)blockIdx.x * N_THREAD + (int64_t)threadIdx.x;
    if (i < (int64_t)y.n_row * y.n_col)
        y.at[i / y.n_col * y.ld + i % y.n_col] = shoal_cuda_from_bf16(from[i]);
}

/* A row on the wire: integers padded to 4 bytes, then scales. */
__device__ __forceinline__ int64_t padded(int32_t n_col)
{
    return (n_col + 3) / 4 * 4;
}

__device__ __forceinline__ int64_t wire_bytes(int32_t n_col)
{
    return padded(n_col) + (int64_t)groups_of(n_col) * 4;
}

__global__ void __launch_bounds__(N_THREAD)
    pack_groups(unsigned char *to, const shoal_int8_group *x, int64_t ld_x, int32_t n_row,
                int32_t n_col)
{
    const int32_t n_group = groups_of(n_col);
    const int64_t row = warp_of() / n_group;
    const int32_t g = (int32_t)(warp_of() % n_group), c = g * SHOAL_GROUP + lane_of();
    if (row >= n_row)
        return;
    unsigned char *at = to + row * wire_bytes(n_col);
    const shoal_int8_group *from = x + row * ld_x + g;
    if (c < padded(n_col)) /* what is behind the last column is 0 in the group, too */
        at[c] = (unsigned char)from->q[lane_of()];
    if (lane_of() == 0)
        reinterpret_cast<float *>(at + padded(n_col))[g] = from->scale;
}

__global__ void __launch_bounds__(N_THREAD)
    unpack_groups(shoal_int8_group *y, int64_t ld_y, const unsigned char *from, int32_t n_row,
                  int32_t n_col)
{
    const int32_t n_group = groups_of(n_col);
    const int64_t row = warp_of() / n_group;
    const int32_t g = (int32_t)(warp_of() % n_group), c = g * SHOAL_GROUP + lane_of();
    if (row >= n_row)
        return;
    const unsigned char *at = from + row * wire_bytes(n_col);
    const int32_t q = c < n_col ? (int32_t)(int8_t)at[c] : 0;
    int32_t sum = q;
#pragma unroll
    for (int apart = 16; apart > 0; apart /= 2)
        sum += __shfl_xor_sync(0xffffffffU, sum, apart);
    shoal_int8_group *to = y + row * ld_y + g;
    to->q[lane_of()] = (int8_t)q;
    if (lane_of() == 0) {
        to->scale = reinterpret_cast<const float *>(at + padded(n_col))[g];
        to->minus_8_sum = -8 * sum;
    }
}

__global__ void __launch_bounds__(N_THREAD) combine(shoal_cuda_rows y, shoal_cuda_results r)
{
    const int64_t i = (int64_t)blockIdx.x * N_THREAD + (int64_t)threadIdx.x;
    if (i >= (int64_t)y.n_row * y.n_col)
        return;
    const int64_t row = i / y.n_col, c = i % y.n_col;
    float acc = 0.0F;
    for (int32_t j = 0; j < r.k; j++) {
        const int64_t at = r.index[row * r.k + j];
        if (at < 0)
            continue;
        const float value =
            r.bf16 ? shoal_cuda_from_bf16(static_cast<const uint16_t *>(r.from)[at * y.n_col + c])
                   : static_cast<const float *>(r.from)[at * y.n_col + c];
        acc = fmaf(r.weight[row * r.k + j], value, acc);
    }
    y.at[row * y.ld + c] = acc;
}

dim3 grid_of_elements(int64_t n)
{
    return dim3((unsigned)((n + N_THREAD - 1) / N_THREAD));
}

} // namespace

cudaError_t shoal_cuda_to_groups(shoal_int8_group *y, int64_t ld_y, shoal_cuda_rows x,
                                 cudaStream_t stream)
{
    const int64_t n = (int64_t)x.n_row * shoal_int8_groups(x.n_col);
    if (n == 0)
        return cudaSuccess;
    SHOAL_LAUNCH(to_groups, grid_of(n), dim3(N_THREAD), 0, stream, y, ld_y, x);
    return cudaGetLastError();
}

cudaError_t shoal_cuda_rows_to_bf16(uint16_t *to, shoal_cuda_rows x, cudaStream_t stream)
{
    const int64_t n = (int64_t)x.n_row * x.n_col;
    if (n == 0)
        return cudaSuccess;
    SHOAL_LAUNCH(to_bf16, grid_of_elements(n), dim3(N_THREAD), 0, stream, to, x);
    return cudaGetLastError();
}

cudaError_t shoal_cuda_rows_from_bf16(shoal_cuda_rows y, const uint16_t *from, cudaStream_t stream)
{
    const int64_t n = (int64_t)y.n_row * y.n_col;
    if (n == 0)
        return cudaSuccess;
    SHOAL_LAUNCH(from_bf16, grid_of_elements(n), dim3(N_THREAD), 0, stream, y, from);
    return cudaGetLastError();
}

cudaError_t shoal_cuda_pack_groups(void *to, const shoal_int8_group *x, int64_t ld_x, int32_t n_row,
                                   int32_t n_col, cudaStream_t stream)
{
    const int64_t n = (int64_t)n_row * shoal_int8_groups(n_col);
    if (n == 0)
        return cudaSuccess;
    SHOAL_LAUNCH(pack_groups, grid_of(n), dim3(N_THREAD), 0, stream,
                 static_cast<unsigned char *>(to), x, ld_x, n_row, n_col);
    return cudaGetLastError();
}

cudaError_t shoal_cuda_unpack_groups(shoal_int8_group *y, int64_t ld_y, const void *from,
                                     int32_t n_row, int32_t n_col, cudaStream_t stream)
{
    const int64_t n = (int64_t)n_row * shoal_int8_groups(n_col);
    if (n == 0)
        return cudaSuccess;
    SHOAL_LAUNCH(unpack_groups, grid_of(n), dim3(N_THREAD), 0, stream, y, ld_y,
                 static_cast<const unsigned char *>(from), n_row, n_col);
    return cudaGetLastError();
}

cudaError_t shoal_cuda_combine(shoal_cuda_rows y, const shoal_cuda_results *results,
                               cudaStream_t stream)
{
    const int64_t n = (int64_t)y.n_row * y.n_col;
    if (n == 0)
        return cudaSuccess;
    SHOAL_LAUNCH(combine, grid_of_elements(n), dim3(N_THREAD), 0, stream, y, *results);
    return cudaGetLastError();
}
