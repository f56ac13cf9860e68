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
#pragma unroll
    for (int t = 0; t < T; t++) {
        const int32_t real = token0 + t < item->n_token ? token0 + t : item->n_token - 1;
        x[t] = item->x + real * item->ld_x;
#pragma unroll
        for (int r = 0; r < R; r++)
            acc[t][r] = 0.0F;
    }
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
    enum {
        R = 4,
        QUADS = FORMAT == SHOAL_FORMAT_Q8 ? 8 : 4,
        HALVES = FORMAT == SHOAL_FORMAT_Q8 ? 1 : 2,
        SCALE_BYTES = FORMAT == SHOAL_FORMAT_MXFP4 ? 16 : 32,
        GROUP_BYTES = SCALE_BYTES + QUADS * 64,
        LANES = QUADS * R,  /* of a group */
        GROUPS = 32 / LANES /* that a warp reads at once */
    };
    const int32_t lane = (int32_t)threadIdx.x % 32, warp = (int32_t)threadIdx.x / 32;
    const int32_t n_group = shoal__n_group(item->n_col), in = lane % LANES;
    const unsigned char *w =
        static_cast<const unsigned char *>(item->w) + (int64_t)band * n_group * GROUP_BYTES;
    const float *x[T];
    float acc[T][R];
#pragma unroll
    for (int t = 0; t < T; t++) {
        const int32_t real = token0 + t < item->n_token ? token0 + t : item->n_token - 1;
        x[t] = item->x + real * item->ld_x;
#pragma unroll
        for (int r = 0; r < R; r++)
            acc[t][r] = 0.0F;
    }
    for (int32_t g = warp * GROUPS + lane / LANES; g < n_group; g += SHOAL__N_WARP * GROUPS) {
        const unsigned char *at = w + (int64_t)g * GROUP_BYTES;
        const uint4 raw = *reinterpret_cast<const uint4 *>(at + SCALE_BYTES + in * 16);
        const uint32_t word[R] = {raw.x, raw.y, raw.z, raw.w};
        const int32_t c = g * SHOAL_GROUP + in / R * 4;
#pragma unroll
        for (int r = 0; r < R; r++) {
            const float scale = shoal__row_scale<FORMAT>(at, in % R * R + r);
#pragma unroll
            for (int half = 0; half < HALVES; half++) {
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
__global__ void __launch_bounds__(128, 3) matmul_few(const shoal_cuda_item *items, int32_t n_item)
{
    SHOAL_SHARED(bytes);
    float *part = reinterpret_cast<float *>(bytes);
    const shoal_cuda_item *item = shoal__item_of(items, n_item, (int32_t)blockIdx.x);
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

template <int FORMAT> cudaError_t launch_few(const shoal__matmul_launch *l)
{
    static shoal__few_kernel *const form[4] = {matmul_few<FORMAT, 1>, matmul_few<FORMAT, 2>,
                                               matmul_few<FORMAT, 4>, matmul_few<FORMAT, 8>};
    return shoal__launch_few(l, form);
}

} // namespace

cudaError_t shoal__cuda_matmul_few(const shoal__matmul_launch *launch, shoal_format format)
{
    switch (format) {
    case SHOAL_FORMAT_F32:
        return launch_few<SHOAL_FORMAT_F32>(launch);
    case SHOAL_FORMAT_F16:
        return launch_few<SHOAL_FORMAT_F16>(launch);
    case SHOAL_FORMAT_BF16:
        return launch_few<SHOAL_FORMAT_BF16>(launch);
    case SHOAL_FORMAT_FP8_BLOCK:
        return launch_few<SHOAL_FORMAT_FP8_BLOCK>(launch);
    case SHOAL_FORMAT_MXFP4:
        return launch_few<SHOAL_FORMAT_MXFP4>(launch);
    case SHOAL_FORMAT_Q8:
        return launch_few<SHOAL_FORMAT_Q8>(launch);
    case SHOAL_FORMAT_Q4:
        return launch_few<SHOAL_FORMAT_Q4>(launch);
    case SHOAL_N_FORMAT:
        break;
    }
    return cudaErrorInvalidValue;
}

/* ---- the launch of many items ---- */

namespace
{

enum form { FEW, FEW_INT8, TILES, TILES_INT8, N_FORM };

form form_of(const shoal_cuda_item *item)
{
    const bool many = item->n_token > 8;
    if (item->x_int8 != nullptr)
        return many ? TILES_INT8 : FEW_INT8;
    const bool tensor = item->format == SHOAL_FORMAT_BF16 || item->format == SHOAL_FORMAT_FP8_BLOCK;
    return many && tensor ? TILES : FEW;
}

/* Items of a form are launched by the tokens that a block of it takes at once. */
int32_t token_class(const shoal_cuda_item *item, form f)
{
    if (f == TILES || f == TILES_INT8)
        return 64;
    return item->n_token == 1 ? 1 : item->n_token == 2 ? 2 : item->n_token <= 4 ? 4 : 8;
}

int32_t blocks_of(const shoal_cuda_item *item, form f)
{
    const int32_t n_band = (item->n_row + SHOAL_BAND - 1) / SHOAL_BAND;
    return f == TILES || f == TILES_INT8 ? (n_band + SHOAL__N_WARP - 1) / SHOAL__N_WARP : n_band;
}

cudaError_t launch_form(const shoal__matmul_launch *launch, form f, shoal_format format)
{
    switch (f) {
    case FEW:
        return shoal__cuda_matmul_few(launch, format);
    case FEW_INT8:
        return shoal__cuda_matmul_few_int8(launch, format);
    case TILES:
        return shoal__cuda_matmul_tiles(launch, format);
    case TILES_INT8:
        return shoal__cuda_matmul_tiles_int8(launch, format);
    case N_FORM:
        break;
    }
    return cudaErrorInvalidValue;
}

} // namespace

cudaError_t shoal_cuda_matmul_many(const shoal_cuda_items *room, const shoal_cuda_item *item,
                                   int32_t n_item, cudaStream_t stream)
{
    static const int32_t classes[] = {1, 2, 4, 8, 64};
    struct {
        shoal__matmul_launch launch;
        form f;
        shoal_format format;
    } kind[N_FORM * SHOAL_N_FORMAT * 5];
    int32_t n_kind = 0, n = 0;
    for (int32_t f = 0; f < N_FORM; f++) {
        for (int32_t format = 0; format < SHOAL_N_FORMAT; format++) {
            for (const int32_t n_token : classes) {
                shoal__matmul_launch l = {room->device + n, 0, 0, 0, stream};
                for (int32_t i = 0; i < n_item; i++) {
                    if (item[i].n_token < 1 || form_of(&item[i]) != f || item[i].format != format ||
                        token_class(&item[i], (form)f) != n_token)
                        continue;
                    room->host[n] = item[i];
                    room->host[n++].block0 = l.n_block;
                    l.n_item++;
                    l.n_block += blocks_of(&item[i], (form)f);
                    l.n_token = item[i].n_token > l.n_token ? item[i].n_token : l.n_token;
                }
                if (l.n_item > 0)
                    kind[n_kind++] = {l, (form)f, (shoal_format)format};
            }
        }
    }
    if (n == 0)
        return cudaSuccess;
    cudaError_t error = cudaMemcpyAsync(room->device, room->host, (size_t)n * sizeof *room->host,
                                        cudaMemcpyHostToDevice, stream);
    for (int32_t k = 0; k < n_kind && error == cudaSuccess; k++)
        error = launch_form(&kind[k].launch, kind[k].f, kind[k].format);
    return error;
}
