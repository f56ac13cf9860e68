/* Rotations. grid: a block for every 256 pairs of a row, by row; bound by launching it. */
#include "runtime/kernels/cuda/kernels.cuh"
#include "runtime/kernels/cuda/ptx.cuh"

namespace
{

enum { N_THREAD = 256 };

__global__ void __launch_bounds__(N_THREAD) rotate(shoal_cuda_rows x, shoal_cuda_rotation rope)
{
    const int32_t n_pair = rope.n_rot / 2, i = (int32_t)(blockIdx.x * N_THREAD + threadIdx.x);
    if (i >= rope.n_head * n_pair)
        return;
    const int32_t head = i / n_pair, pair = i % n_pair;
    float *at = x.at + (int64_t)blockIdx.y * x.ld + (int64_t)head * rope.d + rope.first;
    float *a = at + (rope.interleaved ? 2 * pair : pair),
          *b = at + (rope.interleaved ? 2 * pair + 1 : pair + n_pair);
    const float cos = rope.cos[(int64_t)blockIdx.y * n_pair + pair],
                sin = rope.sin[(int64_t)blockIdx.y * n_pair + pair];
    const float old_a = *a, old_b = *b;
    *a = fmaf(old_a, cos, -(old_b * sin));
    *b = fmaf(old_a, sin, old_b * cos);
}

} // namespace

cudaError_t shoal_cuda_rope(shoal_cuda_rows x, const shoal_cuda_rotation *rope, cudaStream_t stream)
{
    const int32_t n = rope->n_head * (rope->n_rot / 2);
    for (int32_t row0 = 0; n > 0 && row0 < x.n_row; row0 += 65535) { /* the grid's most */
        shoal_cuda_rows some = {x.at + row0 * x.ld, x.ld,
                                x.n_row - row0 < 65535 ? x.n_row - row0 : 65535, x.n_col};
        shoal_cuda_rotation r = *rope;
        r.cos += (int64_t)row0 * (rope->n_rot / 2), r.sin += (int64_t)row0 * (rope->n_rot / 2);
        SHOAL_LAUNCH(rotate, dim3((unsigned)((n + N_THREAD - 1) / N_THREAD), (unsigned)some.n_row),
                     dim3(N_THREAD), 0, stream, some, r);
    }
    return cudaGetLastError();
}
