/* y = x W^T with f32 activations, for few tokens: bound by reading the weights once.
 *
 * grid   a block for each band of each item; block 128 threads; shared 4 T 16 floats
 * reads  a lane loads 16 bytes at a time, a warp 512 that lie together; the warps of a block take
 *        turns along the columns
 * bound  bytes of W / memory bandwidth */
#include "runtime/kernels/cuda/matmul.cuh"

namespace
{

/* What 16 bytes of a band hold: rows x columns, rows first. */
template <int FORMAT> struct piece;
template <> struct piece<SHOAL_FORMAT_F32> {
    enum { rows = 4, columns = 1 };
    static __device__ __forceinline__ void decode(float v[4][1], uint4 raw)
    {
        v[0][0] = __uint_as_float(raw.x), v[1][0] = __uint_as_float(raw.y);
        v[2][0] = __uint_as_float(raw.z), v[3][0] = __uint_as_float(raw.w);
    }
};
template <> struct piece<SHOAL_FORMAT_F16> {
    enum { rows = 8, columns = 1 };
    static __device__ __forceinline__ void decode(float v[8][1], uint4 raw)
    {
        const uint32_t word[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            v[2 * i][0] = shoal_cuda_from_f16((uint16_t)word[i]);
            v[2 * i + 1][0] = shoal_cuda_from_f16((uint16_t)(word[i] >> 16));
        }
    }
};
template <> struct piece<SHOAL_FORMAT_BF16> {
    enum { rows = 8, columns = 1 };
    static __device__ __forceinline__ void decode(float v[8][1], uint4 raw)
    {
        const uint32_t word[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            v[2 * i][0] = __uint_as_float(word[i] << 16);
            v[2 * i + 1][0] = __uint_as_float(word[i] & 0xffff0000U);
        }
    }
};
template <> struct piece<SHOAL_FORMAT_FP8_BLOCK> {
    enum { rows = 8, columns = 2 };
    static __device__ __forceinline__ void decode(float v[8][2], uint4 raw)
    {
        const uint32_t word[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++)
                v[2 * i + j / 2][j % 2] = shoal__e4m3(word[i] >> 8 * j & 0xffU);
        }
    }
};

/* The factor of columns [c, c + 32) of a band: those of a step of a warp share it. */
template <int FORMAT>
__device__ __forceinline__ float step_scale(const shoal_cuda_item *item, int32_t band, int32_t c)
{
    if (FORMAT != SHOAL_FORMAT_FP8_BLOCK)
        return 1.0F;
    const int32_t n_block = (item->n_col + SHOAL_FP8_BLOCK - 1) / SHOAL_FP8_BLOCK;
    return 256.0F *
           item->scale[band * SHOAL_BAND / SHOAL_FP8_BLOCK * n_block + c / SHOAL_FP8_BLOCK];
}

/* Tokens [token0, token0 + T) of one band; those that the item does not have repeat its last. */
template <int FORMAT, int T>
__device__ void few_tokens(const shoal_cuda_item *item, int32_t band, int32_t token0, float *part)
{
    using p = piece<FORMAT>;
    enum { R = p::rows, C = p::columns, LANES = SHOAL_BAND / R, STEP = 32 / LANES * C };
    const int32_t lane = (int32_t)threadIdx.x % 32, warp = (int32_t)threadIdx.x / 32;
    const int32_t n_pad = (item->n_col + C - 1) / C * C;
    const uint4 *w = static_cast<const uint4 *>(item->w) + (int64_t)band * n_pad / C * LANES;
    const float *x[T];
    float acc[T][R];
    shoal__begin_tokens<T, R>(x, acc, item->x, item->ld_x, token0, item->n_token);
    for (int32_t c0 = warp * STEP; c0 < item->n_col; c0 += SHOAL__N_WARP * STEP) {
        const int32_t c = c0 + lane / LANES * C;
        if (c >= item->n_col)
            continue;
        float v[R][C];
        p::decode(v, w[(int64_t)(c / C) * LANES + lane % LANES]);
        const float scale = step_scale<FORMAT>(item, band, c0);
#pragma unroll
        for (int t = 0; t < T; t++) {
            float some[C];
#pragma unroll
            for (int j = 0; j < C; j++)
                some[j] = c + j < item->n_col ? x[t][c + j] * scale : 0.0F;
#pragma unroll
            for (int r = 0; r < R; r++) {
#pragma unroll
                for (int j = 0; j < C; j++)
                    acc[t][r] = fmaf(v[r][j], some[j], acc[t][r]);
            }
        }
    }
    shoal__part_of_band<T, R>(part, acc);
}

/* The same for the quantised formats: 16 bytes are four columns (Q8) or eight of four rows. */
template <int FORMAT, int T>
__device__ void few_quantised(const shoal_cuda_item *item, int32_t band, int32_t token0,
                              float *part)
{
    using f = shoal__quantised<FORMAT>;
    enum {
        R = 4,
        LANES = f::QUADS * R, /* of a group */
        GROUPS = 32 / LANES   /* that a warp reads at once */
    };
    const int32_t lane = (int32_t)threadIdx.x % 32, warp = (int32_t)threadIdx.x / 32;
    const int32_t n_group = shoal__n_group(item->n_col), in = lane % LANES;
    const unsigned char *w =
        static_cast<const unsigned char *>(item->w) + (int64_t)band * n_group * f::GROUP_BYTES;
    const float *x[T];
    float acc[T][R];
    shoal__begin_tokens<T, R>(x, acc, item->x, item->ld_x, token0, item->n_token);
    for (int32_t g = warp * GROUPS + lane / LANES; g < n_group; g += SHOAL__N_WARP * GROUPS) {
        const unsigned char *at = w + (int64_t)g * f::GROUP_BYTES;
        const uint4 raw = *reinterpret_cast<const uint4 *>(at + f::SCALE_BYTES + in * 16);
        const uint32_t word[R] = {raw.x, raw.y, raw.z, raw.w};
        const int32_t c = g * SHOAL_GROUP + in / R * 4;
#pragma unroll
        for (int r = 0; r < R; r++) {
            const float scale = shoal__row_scale<FORMAT>(at, in % R * R + r);
#pragma unroll
            for (int half = 0; half < f::HALVES; half++) {
                const uint32_t q = shoal__signed_bytes<FORMAT>(word[r], half);
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float v = scale * (float)(int8_t)(q >> 8 * j);
                    const int32_t column = c + half * 16 + j;
                    if (column >= item->n_col)
                        continue;
#pragma unroll
                    for (int t = 0; t < T; t++)
                        acc[t][r] = fmaf(v, x[t][column], acc[t][r]);
                }
            }
        }
    }
    shoal__part_of_band<T, R>(part, acc);
}

template <int FORMAT, int T>
__global__ void __launch_bounds__(128, 3) matmul_few(const __grid_constant__ shoal__items items)
{
    SHOAL_SHARED(bytes);
    float *part = reinterpret_cast<float *>(bytes);
    const shoal_cuda_item *item = shoal__item_of(items);
    const int32_t band = (int32_t)blockIdx.x - item->block0;
    for (int32_t token0 = 0; token0 < item->n_token; token0 += T) {
        if constexpr (FORMAT == SHOAL_FORMAT_Q8 || FORMAT == SHOAL_FORMAT_Q4 ||
                      FORMAT == SHOAL_FORMAT_MXFP4)
            few_quantised<FORMAT, T>(item, band, token0, part);
        else
            few_tokens<FORMAT, T>(item, band, token0, part);
        __syncthreads();
        shoal__store_band<T>(item, band, token0, part);
        __syncthreads();
    }
}

struct few {
    template <int FORMAT> static cudaError_t of(const shoal__matmul_launch *l)
    {
        static shoal__matmul_kernel *const form[4] = {matmul_few<FORMAT, 1>, matmul_few<FORMAT, 2>,
                                                      matmul_few<FORMAT, 4>, matmul_few<FORMAT, 8>};
        return shoal__launch_few(l, form);
    }
};

} // namespace

cudaError_t shoal__cuda_matmul_few(const shoal__matmul_launch *launch, shoal_format format)
{
    return shoal__launch_format<few, SHOAL_FORMAT_F32, SHOAL_FORMAT_F16, SHOAL_FORMAT_BF16,
                                SHOAL_FORMAT_FP8_BLOCK, SHOAL_FORMAT_MXFP4, SHOAL_FORMAT_Q8,
                                SHOAL_FORMAT_Q4>(launch, format);
}
