/* y = x W^T of quantised weights with int8 activations.
 *
 * Few tokens: as matmul.cu, with dp4a; bound by reading W.
 * Tiles, m16n8k32: a group of a band, 16 rows by 32 columns, is operand A of one instruction just
 * as it lies: the word of lane (g, t) is row g of quad t, whose low nibbles are the columns of A's
 * first half and whose high nibbles are those of its second.
 * grid   a block for 4 bands of an item, by its 64 tokens; block 128 threads, a band a warp
 * shared two buffers of [64 tokens] int8 groups
 * bound  tensor cores, at 64 tokens and more; bytes of W below */
#include "runtime/kernels/cuda/matmul.cuh"

namespace
{

/* Word i of the 32 integers of a group of x. */
__device__ __forceinline__ int32_t x_word(const shoal_int8_group *x, int32_t i)
{
    return reinterpret_cast<const int32_t *>(x->q)[i];
}

template <int FORMAT, int T>
__device__ void few_tokens(const shoal_cuda_item *item, int32_t band, float *part)
{
    using f = shoal__quantised<FORMAT>;
    enum { R = 4, LANES = f::QUADS * R, GROUPS = 32 / LANES };
    const int32_t lane = (int32_t)threadIdx.x % 32, warp = (int32_t)threadIdx.x / 32;
    const int32_t n_group = shoal__n_group(item->n_col), in = lane % LANES, quad = in / R;
    const unsigned char *w =
        static_cast<const unsigned char *>(item->w) + (int64_t)band * n_group * f::GROUP_BYTES;
    const shoal_int8_group *x[T];
    float acc[T][R];
    shoal__begin_tokens<T, R>(x, acc, item->x_int8, item->ld_x_int8, 0, item->n_token);
    for (int32_t g = warp * GROUPS + lane / LANES; g < n_group; g += SHOAL__N_WARP * GROUPS) {
        const unsigned char *at = w + (int64_t)g * f::GROUP_BYTES;
        const uint4 raw = *reinterpret_cast<const uint4 *>(at + f::SCALE_BYTES + in * 16);
        const uint32_t word[R] = {raw.x, raw.y, raw.z, raw.w};
        float scale[R];
#pragma unroll
        for (int r = 0; r < R; r++)
            scale[r] = shoal__row_scale<FORMAT>(at, in % R * R + r);
#pragma unroll
        for (int t = 0; t < T; t++) {
            const float x_scale = x[t][g].scale;
#pragma unroll
            for (int r = 0; r < R; r++) {
                int32_t sum = 0;
#pragma unroll
                for (int half = 0; half < f::HALVES; half++)
                    sum = __dp4a((int32_t)shoal__signed_bytes<FORMAT>(word[r], half),
                                 x_word(&x[t][g], quad + 4 * half), sum);
                acc[t][r] = fmaf((float)sum, scale[r] * x_scale, acc[t][r]);
            }
        }
    }
    shoal__part_of_band<T, R>(part, acc);
}

template <int FORMAT, int T>
__global__ void __launch_bounds__(128) matmul_int8_few(const __grid_constant__ shoal__items items)
{
    SHOAL_SHARED(bytes);
    float *part = reinterpret_cast<float *>(bytes);
    const shoal_cuda_item *item = shoal__item_of(items);
    const int32_t band = (int32_t)blockIdx.x - item->block0;
    few_tokens<FORMAT, T>(item, band, part);
    __syncthreads();
    shoal__store_band<T>(item, band, 0, part);
}

enum { TILE = SHOAL__TILE_TOKEN, N_TILE = TILE / 8, GROUP_WORDS = sizeof(shoal_int8_group) / 4 };

/* The 64 groups number g of the tile's tokens into shared memory; tokens that are not there: the
 * last. */
__device__ __forceinline__ void stage_x(int32_t *to, const shoal_cuda_item *item, int32_t token0,
                                        int32_t g)
{
#pragma unroll 1 /* unrolled it takes registers that the sums need */
    for (int32_t i = (int32_t)threadIdx.x; i < TILE * GROUP_WORDS; i += (int32_t)blockDim.x) {
        const int32_t t = token0 + i / GROUP_WORDS;
        const int32_t real = t < item->n_token ? t : item->n_token - 1;
        const shoal_int8_group *x = item->x_int8 + real * item->ld_x_int8 + g;
        to[i] = reinterpret_cast<const int32_t *>(x)[i % GROUP_WORDS];
    }
}

/* Operand A of one group of a band. */
template <int FORMAT>
__device__ __forceinline__ void load_a(uint32_t a[4], const unsigned char *at, int32_t g, int32_t t)
{
    using f = shoal__quantised<FORMAT>;
    const uint32_t *quad = reinterpret_cast<const uint32_t *>(at + f::SCALE_BYTES);
#pragma unroll
    for (int i = 0; i < 2; i++) { /* rows g, g + 8 */
        const uint32_t low = quad[t * 16 + g + 8 * i];
        a[i] = shoal__signed_bytes<FORMAT>(low, 0);
        a[2 + i] = f::HALVES == 2 ? shoal__signed_bytes<FORMAT>(low, 1)
                                  : shoal__signed_bytes<FORMAT>(quad[(t + 4) * 16 + g + 8 * i], 0);
    }
}

template <int FORMAT>
__global__ void __launch_bounds__(128) matmul_int8_tiles(const __grid_constant__ shoal__items items)
{
    using f = shoal__quantised<FORMAT>;
    SHOAL_SHARED(bytes);
    int32_t *room = reinterpret_cast<int32_t *>(bytes);
    const shoal_cuda_item *item = shoal__item_of(items);
    const int32_t token0 = (int32_t)blockIdx.y * TILE;
    if (token0 >= item->n_token)
        return;
    const int32_t lane = (int32_t)threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const int32_t band =
        ((int32_t)blockIdx.x - item->block0) * SHOAL__N_WARP + (int32_t)threadIdx.x / 32;
    const int32_t n_band = (item->n_row + SHOAL_BAND - 1) / SHOAL_BAND;
    const int32_t n_group = shoal__n_group(item->n_col);
    /* A warp without a band repeats the last one and writes nothing. */
    const unsigned char *w =
        static_cast<const unsigned char *>(item->w) +
        (int64_t)(band < n_band ? band : n_band - 1) * n_group * f::GROUP_BYTES;
    float acc[N_TILE][4] = {};
    stage_x(room, item, token0, 0);
    for (int32_t k = 0; k < n_group; k++) {
        __syncthreads(); /* this group is there, and nobody reads the buffer of the next any more */
        if (k + 1 < n_group)
            stage_x(room + (k + 1) % 2 * TILE * GROUP_WORDS, item, token0, k + 1);
        const shoal_int8_group *x =
            reinterpret_cast<const shoal_int8_group *>(room + k % 2 * TILE * GROUP_WORDS);
        const unsigned char *at = w + (int64_t)k * f::GROUP_BYTES;
        uint32_t a[4];
        load_a<FORMAT>(a, at, g, t);
        const float scale[2] = {shoal__row_scale<FORMAT>(at, g),
                                shoal__row_scale<FORMAT>(at, g + 8)};
#pragma unroll
        for (int n = 0; n < N_TILE; n++) {
            const uint32_t b[2] = {(uint32_t)x_word(&x[n * 8 + g], t),
                                   (uint32_t)x_word(&x[n * 8 + g], t + 4)};
            const int32_t zero[4] = {0, 0, 0, 0};
            int32_t sum[4];
            shoal_cuda_mma_int8(sum, a, b, zero);
            const float x_scale[2] = {x[n * 8 + 2 * t].scale, x[n * 8 + 2 * t + 1].scale};
#pragma unroll
            for (int i = 0; i < 4; i++)
                acc[n][i] = fmaf((float)sum[i], scale[i / 2] * x_scale[i % 2], acc[n][i]);
        }
    }
#pragma unroll
    for (int n = 0; n < N_TILE; n++)
        shoal__store_tile(item, band, token0, n, acc[n]);
}

struct few {
    template <int FORMAT> static cudaError_t of(const shoal__matmul_launch *l)
    {
        static shoal__matmul_kernel *const form[4] = {
            matmul_int8_few<FORMAT, 1>, matmul_int8_few<FORMAT, 2>, matmul_int8_few<FORMAT, 4>,
            matmul_int8_few<FORMAT, 8>};
        return shoal__launch_few(l, form);
    }
};

struct tiles {
    template <int FORMAT> static cudaError_t of(const shoal__matmul_launch *l)
    {
        return shoal__launch_tiles(l, matmul_int8_tiles<FORMAT>,
                                   (size_t)2 * TILE * sizeof(shoal_int8_group));
    }
};

} // namespace

cudaError_t shoal__cuda_matmul_few_int8(const shoal__matmul_launch *launch, shoal_format format)
{
    return shoal__launch_format<few, SHOAL_FORMAT_MXFP4, SHOAL_FORMAT_Q8, SHOAL_FORMAT_Q4>(launch,
                                                                                           format);
}

cudaError_t shoal__cuda_matmul_tiles_int8(const shoal__matmul_launch *launch, shoal_format format)
{
    return shoal__launch_format<tiles, SHOAL_FORMAT_MXFP4, SHOAL_FORMAT_Q8, SHOAL_FORMAT_Q4>(
        launch, format);
}
