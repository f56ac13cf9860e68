/* y = x W^T for many tokens, W of BF16 or FP8_BLOCK, on tensor cores: m16n8k16, both operands in
 * bf16 (FP8's values are exact there), sums in f32; FP8's scales multiply the sums of 128 columns.
 *
 * grid   a block for 4 bands of an item, by its 64 tokens; block 128 threads, a band a warp
 * shared W as pairs of columns [4 bands][16 pairs][24 words, of which 16 are rows], x as pairs
 *        [64 tokens][20 words, of which 16 are pairs]: strides that no two lanes of a fragment's
 *        load meet in a bank; two buffers
 * bound  tensor cores, at 64 tokens and more; bytes of W below */
#include "runtime/kernels/cuda/matmul.cuh"

namespace
{

enum {
    TILE = SHOAL__TILE_TOKEN,
    N_TILE = TILE / 8,
    PAIRS = 16, /* pairs of columns of a step */
    W_STRIDE = 24,
    X_STRIDE = 20,
    W_WORDS = SHOAL__N_WARP * PAIRS * W_STRIDE,
    X_WORDS = TILE * X_STRIDE
};

/* 8 rows of a pair of columns as words of two bf16, from where they lie in a band. */
template <int FORMAT>
__device__ __forceinline__ void load_pair(uint32_t word[8], const void *band, int32_t pair,
                                          int32_t half, int32_t n_col)
{
    if constexpr (FORMAT == SHOAL_FORMAT_FP8_BLOCK) {
        const uint4 raw = static_cast<const uint4 *>(band)[pair * 2 + half];
        const uint32_t four[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const uint32_t two = four[i / 2] >> 16 * (i % 2);
            word[i] = shoal_cuda_bf16_pair(shoal__e4m3(two & 0xffU), shoal__e4m3(two >> 8 & 0xffU));
        }
    } else {
        const uint4 *column = static_cast<const uint4 *>(band) + (int64_t)pair * 4 + half;
        const uint4 low = column[0];
        const uint4 high = 2 * pair + 1 < n_col ? column[2] : make_uint4(0, 0, 0, 0);
        const uint32_t l[4] = {low.x, low.y, low.z, low.w}, h[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            word[2 * i] = __byte_perm(l[i], h[i], 0x5410);
            word[2 * i + 1] = __byte_perm(l[i], h[i], 0x7632);
        }
    }
}

/* The step's columns of the block's bands; columns and bands that are not there are zeros. */
template <int FORMAT>
__device__ __forceinline__ void stage_w(uint32_t *to, const shoal_cuda_item *item, int32_t band0,
                                        int32_t pair0)
{
    const int32_t n_pair = (item->n_col + 1) / 2,
                  n_band = (item->n_row + SHOAL_BAND - 1) / SHOAL_BAND;
    const int64_t band_bytes =
        FORMAT == SHOAL_FORMAT_FP8_BLOCK ? (int64_t)n_pair * 32 : (int64_t)item->n_col * 32;
    for (int32_t i = (int32_t)threadIdx.x; i < SHOAL__N_WARP * PAIRS * 2;
         i += (int32_t)blockDim.x) {
        const int32_t half = i % 2, pair = i / 2 % PAIRS, band = i / 2 / PAIRS;
        uint32_t word[8] = {};
        if (pair0 + pair < n_pair && band0 + band < n_band)
            load_pair<FORMAT>(
                word, static_cast<const unsigned char *>(item->w) + (band0 + band) * band_bytes,
                pair0 + pair, half, item->n_col);
        uint32_t *at = to + (band * PAIRS + pair) * W_STRIDE + half * 8;
#pragma unroll
        for (int j = 0; j < 8; j++)
            at[j] = word[j];
    }
}

__device__ __forceinline__ void stage_x(uint32_t *to, const shoal_cuda_item *item, int32_t token0,
                                        int32_t pair0)
{
    for (int32_t i = (int32_t)threadIdx.x; i < TILE * PAIRS; i += (int32_t)blockDim.x) {
        const int32_t pair = i % PAIRS, t = token0 + i / PAIRS, c = 2 * (pair0 + pair);
        float low = 0.0F, high = 0.0F;
        if (t < item->n_token) {
            const float *x = item->x + t * item->ld_x;
            low = c < item->n_col ? x[c] : 0.0F;
            high = c + 1 < item->n_col ? x[c + 1] : 0.0F;
        }
        to[i / PAIRS * X_STRIDE + pair] = shoal_cuda_bf16_pair(low, high);
    }
}

template <int FORMAT>
__global__ void __launch_bounds__(128) matmul_tiles(const __grid_constant__ shoal__items items)
{
    SHOAL_SHARED(bytes);
    uint32_t *room = reinterpret_cast<uint32_t *>(bytes);
    const shoal_cuda_item *item = shoal__item_of(items);
    const int32_t token0 = (int32_t)blockIdx.y * TILE;
    if (token0 >= item->n_token)
        return;
    const int32_t lane = (int32_t)threadIdx.x % 32, warp = (int32_t)threadIdx.x / 32, g = lane / 4,
                  t = lane % 4;
    const int32_t band0 = ((int32_t)blockIdx.x - item->block0) * SHOAL__N_WARP, band = band0 + warp;
    const int32_t n_step = (item->n_col + 2 * PAIRS - 1) / (2 * PAIRS);
    const int32_t n_block = (item->n_col + SHOAL_FP8_BLOCK - 1) / SHOAL_FP8_BLOCK;
    float total[N_TILE][4] = {}, acc[N_TILE][4] = {};
    stage_w<FORMAT>(room, item, band0, 0);
    stage_x(room + W_WORDS, item, token0, 0);
    for (int32_t k = 0; k < n_step; k++) {
        __syncthreads();
        if (k + 1 < n_step) {
            uint32_t *next = room + (k + 1) % 2 * (W_WORDS + X_WORDS);
            stage_w<FORMAT>(next, item, band0, (k + 1) * PAIRS);
            stage_x(next + W_WORDS, item, token0, (k + 1) * PAIRS);
        }
        const uint32_t *w = room + k % 2 * (W_WORDS + X_WORDS) + warp * PAIRS * W_STRIDE;
        const uint32_t *x = room + k % 2 * (W_WORDS + X_WORDS) + W_WORDS;
#pragma unroll
        for (int half = 0; half < 2; half++) { /* 8 pairs: the 16 columns of an instruction */
            uint32_t a[4];
#pragma unroll
            for (int i = 0; i < 4; i++)
                a[i] = w[(half * 8 + i / 2 * 4 + t) * W_STRIDE + g + i % 2 * 8];
#pragma unroll
            for (int n = 0; n < N_TILE; n++) {
                const uint32_t *column = x + (n * 8 + g) * X_STRIDE + half * 8;
                const uint32_t b[2] = {column[t], column[4 + t]};
                shoal_cuda_mma_bf16(acc[n], a, b, acc[n]);
            }
        }
        if (FORMAT == SHOAL_FORMAT_FP8_BLOCK &&
            ((k + 1) * 2 * PAIRS % SHOAL_FP8_BLOCK == 0 || k + 1 == n_step)) {
            const int32_t row = band * SHOAL_BAND < item->n_row ? band * SHOAL_BAND : 0;
            const float scale =
                256.0F *
                item->scale[row / SHOAL_FP8_BLOCK * n_block + k * 2 * PAIRS / SHOAL_FP8_BLOCK];
#pragma unroll
            for (int n = 0; n < N_TILE; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    total[n][i] = fmaf(scale, acc[n][i], total[n][i]);
                    acc[n][i] = 0.0F;
                }
            }
        }
    }
#pragma unroll
    for (int n = 0; n < N_TILE; n++)
        shoal__store_tile(item, band, token0, n,
                          FORMAT == SHOAL_FORMAT_FP8_BLOCK ? total[n] : acc[n]);
}

struct tiles {
    template <int FORMAT> static cudaError_t of(const shoal__matmul_launch *l)
    {
        return shoal__launch_tiles(l, matmul_tiles<FORMAT>,
                                   (size_t)2 * (W_WORDS + X_WORDS) * sizeof(uint32_t));
    }
};

} // namespace

cudaError_t shoal__cuda_matmul_tiles(const shoal__matmul_launch *launch, shoal_format format)
{
    /* bf16 would not hold the values of the others */
    return shoal__launch_format<tiles, SHOAL_FORMAT_BF16, SHOAL_FORMAT_FP8_BLOCK>(launch, format);
}
