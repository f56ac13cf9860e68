/* What the kernels of matrix products share. Layering: kernels. */
#ifndef SHOAL_KERNELS_CUDA_MATMUL_CUH
#define SHOAL_KERNELS_CUDA_MATMUL_CUH

#include "runtime/kernels/cuda/kernels.cuh"
#include "runtime/kernels/cuda/ptx.cuh"

enum {
    SHOAL__N_WARP = 4,      /* of a block */
    SHOAL__FEW = 8,         /* tokens that the forms for few take at a time, at most */
    SHOAL__TILE_TOKEN = 64, /* tokens of a block of the tensor-core forms */
    SHOAL__N_CARRIED = 8    /* items that travel with their launch */
};

/* The items of a launch. */
struct shoal__items {
    const shoal_cuda_item *many; /* [n] device memory, or NULL: they are in `few` */
    int32_t n;
    shoal_cuda_item few[SHOAL__N_CARRIED];
};

/* The item that a block of the launch belongs to: the last whose block0 is not behind it. */
static __device__ __forceinline__ const shoal_cuda_item *shoal__item_of(const shoal__items &items)
{
    const shoal_cuda_item *item = items.many != nullptr ? items.many : items.few;
    int32_t low = 0, high = items.n - 1;
    while (low < high) {
        const int32_t middle = (low + high + 1) / 2;
        if (item[middle].block0 <= (int32_t)blockIdx.x)
            low = middle;
        else
            high = middle - 1;
    }
    return &item[low];
}

/* e4m3 / 256, exactly: its bits are those of an f16 with the exponent's bias 8 less. */
static __device__ __forceinline__ float shoal__e4m3(uint32_t byte)
{
    return shoal_cuda_from_f16((uint16_t)((byte & 0x80U) << 8 | (byte & 0x7fU) << 7));
}

/* Twice the values of four e2m1 codes in the low nibbles of the bytes of `code`, as signed bytes.
 */
static __device__ __forceinline__ uint32_t shoal__e2m1(uint32_t code)
{
    uint32_t select = code & 0x07070707U;
    select = (select | select >> 4) & 0x00ff00ffU;
    select = (select | select >> 8) & 0x0000ffffU;
    const uint32_t plus = __byte_perm(0x03020100U, 0x0c080604U, select);
    const uint32_t minus = __byte_perm(0xfdfeff00U, 0xf4f8fafcU, select);
    const uint32_t negative = (code >> 3 & 0x01010101U) * 0xffU;
    return (plus & ~negative) | (minus & negative);
}

/* 2^(e - 128), the scale of MXFP4's doubled values; 0 below the smallest f32. */
static __device__ __forceinline__ float shoal__e8m0(uint32_t e)
{
    return e > 1 ? __uint_as_float((e - 1) << 23) : __uint_as_float(0x00200000U << e);
}

/* shoal_int8_groups for device code. */
static __device__ __forceinline__ int32_t shoal__n_group(int32_t n_col)
{
    return (n_col + SHOAL_GROUP - 1) / SHOAL_GROUP;
}

/* The scale of a row of a quantised group, as its integers want it (MXFP4's are doubled). */
template <int FORMAT>
static __device__ __forceinline__ float shoal__row_scale(const unsigned char *group, int32_t row)
{
    if (FORMAT == SHOAL_FORMAT_MXFP4)
        return shoal__e8m0(group[row]);
    return shoal_cuda_from_f16(reinterpret_cast<const uint16_t *>(group)[row]);
}

/* Four columns of a row as signed bytes, from a word of a quad: of Q8 the word itself, else its low
 * (half 0) or high nibbles. */
template <int FORMAT>
static __device__ __forceinline__ uint32_t shoal__signed_bytes(uint32_t word, int half)
{
    if (FORMAT == SHOAL_FORMAT_Q8)
        return word ^ 0x80808080U;
    const uint32_t code = word >> 4 * half & 0x0f0f0f0fU;
    return FORMAT == SHOAL_FORMAT_MXFP4 ? shoal__e2m1(code) : __vsub4(code, 0x08080808U);
}

/* Groups of a quantised format in a band. */
template <int FORMAT> struct shoal__quantised {
    enum {
        QUADS = FORMAT == SHOAL_FORMAT_Q8 ? 8 : 4,
        HALVES = FORMAT == SHOAL_FORMAT_Q8 ? 1 : 2,
        SCALE_BYTES = FORMAT == SHOAL_FORMAT_MXFP4 ? 16 : 32,
        GROUP_BYTES = SCALE_BYTES + QUADS * 64
    };
};

/* Launches over items of one format that have n_block blocks in all. Few: a band a block, at most 8
 * tokens at a time, x as f32 or as integers. Tiles: 4 bands and 64 tokens a block, on tensor cores;
 * x is rounded to bf16 (BF16, FP8_BLOCK), or is integers (the quantised). */
struct shoal__matmul_launch {
    shoal__items items;
    int32_t n_block;
    int32_t n_token; /* most of an item */
    cudaStream_t stream;
};
cudaError_t shoal__cuda_matmul_few(const shoal__matmul_launch *launch, shoal_format format);
cudaError_t shoal__cuda_matmul_few_int8(const shoal__matmul_launch *launch, shoal_format format);
cudaError_t shoal__cuda_matmul_tiles(const shoal__matmul_launch *launch, shoal_format format);
cudaError_t shoal__cuda_matmul_tiles_int8(const shoal__matmul_launch *launch, shoal_format format);

/* What a block of the forms for few tokens begins with: nothing summed up, and where its tokens'
 * rows lie. Tokens behind the item's last one repeat that. */
template <int T, int R, typename X>
static __device__ __forceinline__ void shoal__begin_tokens(const X *at[T], float acc[T][R],
                                                           const X *x, int64_t ld, int32_t token0,
                                                           int32_t n_token)
{
#pragma unroll
    for (int t = 0; t < T; t++) {
        const int32_t real = token0 + t < n_token ? token0 + t : n_token - 1;
        at[t] = x + real * ld;
#pragma unroll
        for (int r = 0; r < R; r++)
            acc[t][r] = 0.0F;
    }
}

/* The first N of acc's T * R values (in the order of rows) over lanes that are APART, APART / 2,
 * ... LANES apart. With each step a lane keeps half of the values and gives the other half away, as
 * long as it has more than one; *first: number of the first that it ends with. */
template <int N, int APART, int LANES, int T, int R>
static __device__ __forceinline__ void shoal__fold(float acc[T][R], int32_t *first)
{
    const int32_t lane = (int32_t)threadIdx.x % 32;
    if constexpr (APART >= LANES && N > 1) {
        const bool upper = (lane & APART) != 0;
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            const int j = i + N / 2;
            const float low = acc[i / R][i % R], high = acc[j / R][j % R];
            const float other = __shfl_xor_sync(0xffffffffU, upper ? low : high, APART);
            acc[i / R][i % R] = (upper ? high : low) + other;
        }
        *first += upper ? N / 2 : 0;
        shoal__fold<N / 2, APART / 2, LANES, T, R>(acc, first);
    } else if constexpr (APART >= LANES) {
        acc[0][0] += __shfl_xor_sync(0xffffffffU, acc[0][0], APART);
        shoal__fold<N, APART / 2, LANES, T, R>(acc, first);
    }
}

/* What the lanes of a warp have summed up of a band, acc [T][R rows], to part [n_warp, T, 16] in
 * shared memory: LANES = 16 / R lanes have its rows, every LANES-th the same rows of other
 * columns. */
template <int T, int R>
static __device__ __forceinline__ void shoal__part_of_band(float *part, float acc[T][R])
{
    enum {
        LANES = SHOAL_BAND / R,
        SHARE = 32 / LANES, /* lanes that have the same rows */
        LEFT = T * R > SHARE ? T * R / SHARE : 1,
        TWICE = (SHARE / (T * R) > 1 ? SHARE / (T * R) - 1 : 0) * LANES /* lanes that end alike */
    };
    const int32_t lane = (int32_t)threadIdx.x % 32, warp = (int32_t)threadIdx.x / 32;
    int32_t first = 0;
    shoal__fold<T * R, 16, LANES, T, R>(acc, &first);
#pragma unroll
    for (int i = 0; i < LEFT; i++) {
        const int32_t t = (first + i) / R, r = (first + i) % R;
        if ((lane & TWICE) == 0)
            part[(warp * T + t) * SHOAL_BAND + lane % LANES * R + r] = acc[i / R][i % R];
    }
}

/* Sums of one band over the warps of a block, from part [n_warp, T, 16] in shared memory, in the
 * warps' order; then the bias, and y for the rows that there are. */
template <int T>
static __device__ __forceinline__ void shoal__store_band(const shoal_cuda_item *item, int32_t band,
                                                         int32_t token0, const float *part)
{
    for (int32_t i = (int32_t)threadIdx.x; i < T * SHOAL_BAND; i += (int32_t)blockDim.x) {
        const int32_t t = token0 + i / SHOAL_BAND, row = band * SHOAL_BAND + i % SHOAL_BAND;
        if (t >= item->n_token || row >= item->n_row)
            continue;
        float sum = part[i];
        for (int32_t warp = 1; warp < SHOAL__N_WARP; warp++)
            sum += part[warp * T * SHOAL_BAND + i];
        item->y[t * item->ld_y + row] = item->bias != nullptr ? sum + item->bias[row] : sum;
    }
}

/* What a block of the tensor-core forms keeps: of fragment n of 8 tokens, the sums at rows g, g + 8
 * and tokens 2t, 2t + 1 of this lane (ptx.cuh). */
static __device__ __forceinline__ void shoal__store_tile(const shoal_cuda_item *item, int32_t band,
                                                         int32_t token0, int n, const float sum[4])
{
    const int32_t lane = (int32_t)threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int32_t token = token0 + n * 8 + 2 * (lane % 4) + i % 2,
                      row = band * SHOAL_BAND + lane / 4 + i / 2 * 8;
        if (token < item->n_token && row < item->n_row)
            item->y[token * item->ld_y + row] =
                item->bias != nullptr ? sum[i] + item->bias[row] : sum[i];
    }
}

typedef void shoal__matmul_kernel(const shoal__items items);

/* Launch a kernel for bands and few tokens in its form for 1, 2, 4 or 8 of them. */
static inline cudaError_t shoal__launch_few(const shoal__matmul_launch *l,
                                            shoal__matmul_kernel *const form[4])
{
    const int32_t i = l->n_token == 1 ? 0 : l->n_token == 2 ? 1 : l->n_token <= 4 ? 2 : 3;
    const size_t shared = ((size_t)SHOAL__N_WARP * SHOAL_BAND * sizeof(float)) << i;
    SHOAL_LAUNCH(form[i], dim3((unsigned)l->n_block), dim3(32 * SHOAL__N_WARP), shared, l->stream,
                 l->items);
    return cudaGetLastError();
}

/* Launch a kernel for tiles. */
static inline cudaError_t shoal__launch_tiles(const shoal__matmul_launch *l,
                                              shoal__matmul_kernel *kernel, size_t shared)
{
    const int32_t n_tile = (l->n_token + SHOAL__TILE_TOKEN - 1) / SHOAL__TILE_TOKEN;
    SHOAL_LAUNCH(kernel, dim3((unsigned)l->n_block, (unsigned)n_tile), dim3(32 * SHOAL__N_WARP),
                 shared, l->stream, l->items);
    return cudaGetLastError();
}

/* Launch::of<FORMAT>(launch) for the format, if it is one of FORMATS. */
template <typename Launch, int... FORMATS>
static inline cudaError_t shoal__launch_format(const shoal__matmul_launch *launch,
                                               shoal_format format)
{
    cudaError_t error = cudaErrorInvalidValue;
    (void)((format == FORMATS ? (error = Launch::template of<FORMATS>(launch), true) : false) ||
           ...);
    return error;
}

#endif
