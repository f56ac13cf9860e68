/* Rows between the device and the host's pinned memory, which is read and written in place.
 *
 * grid   1,024 columns of a row a block of 256 threads; 128 columns a warp, 4 values a lane, which
 *        are those that make whole words of the encoding, so that a warp touches 128 bytes that lie
 *        together
 * shared up to 64 rows that are summed, with their weights (pack_sums, sum_rows)
 * bound  PCIe: the bytes that travel, once */
#include "runtime/kernels/cuda/groups.cuh"

namespace
{

enum { N_THREAD = 256, SLAB = N_THREAD / 32 * SHOAL__WARP_VALUES, N_TERM = 64 };

__device__ __forceinline__ int32_t lane_of()
{
    return (int32_t)threadIdx.x % 32;
}

/* Blocks of a row. */
__host__ __device__ __forceinline__ int32_t slabs_of(int32_t n_col)
{
    return (n_col + SLAB - 1) / SLAB;
}

/* The row that this block works on, and the first column of this warp. */
__device__ __forceinline__ int32_t row_of(int32_t n_col)
{
    return (int32_t)(blockIdx.x / (uint32_t)slabs_of(n_col));
}

__device__ __forceinline__ int32_t first_column(int32_t n_col)
{
    return (int32_t)(blockIdx.x % (uint32_t)slabs_of(n_col)) * SLAB +
           (int32_t)threadIdx.x / 32 * SHOAL__WARP_VALUES;
}

/* The column of value j of this lane, of a warp that begins at c0. */
__device__ __forceinline__ int32_t column_of(shoal_wire_encoding encoding, int32_t c0, int j)
{
    if (encoding == SHOAL_WIRE_F32)
        return c0 + lane_of() + 32 * j;
    if (encoding == SHOAL_WIRE_BF16)
        return c0 + 2 * lane_of() + 64 * (j / 2) + j % 2;
    return c0 + 4 * lane_of() + j;
}

/* Scales of an int8 row: behind its integers, which are padded to words. */
__device__ __forceinline__ int64_t scale_word(int32_t n_col)
{
    return (n_col + 3) / 4;
}

/* The lane's 4 values to a row on the wire; those behind n_col are 0. All lanes of a warp. */
__device__ __forceinline__ void store(unsigned char *row, shoal_wire_encoding encoding,
                                      const float v[4], int32_t c0, int32_t n_col)
{
    uint32_t *word = reinterpret_cast<uint32_t *>(row);
    if (encoding == SHOAL_WIRE_F32) {
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (column_of(encoding, c0, j) < n_col)
                word[column_of(encoding, c0, j)] = __float_as_uint(v[j]);
    } else if (encoding == SHOAL_WIRE_BF16) {
#pragma unroll
        for (int j = 0; j < 4; j += 2)
            if (column_of(encoding, c0, j) < n_col)
                word[column_of(encoding, c0, j) / 2] = shoal_cuda_bf16_pair(v[j], v[j + 1]);
    } else {
        const int32_t c = column_of(encoding, c0, 0);
        const shoal__quad quad = shoal__to_int8(v);
        if (c < n_col)
            word[c / 4] = quad.word;
        if (c < n_col && c % SHOAL_GROUP == 0)
            word[scale_word(n_col) + c / SHOAL_GROUP] = __float_as_uint(quad.scale);
    }
}

/* The lane's 4 values of a row on the wire; those behind n_col are 0. */
__device__ __forceinline__ void load(float v[4], const unsigned char *row,
                                     shoal_wire_encoding encoding, int32_t c0, int32_t n_col)
{
    const uint32_t *word = reinterpret_cast<const uint32_t *>(row);
    if (encoding == SHOAL_WIRE_F32) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int32_t c = column_of(encoding, c0, j);
            v[j] = c < n_col ? __uint_as_float(word[c]) : 0.0F;
        }
    } else if (encoding == SHOAL_WIRE_BF16) {
#pragma unroll
        for (int j = 0; j < 4; j += 2) {
            const int32_t c = column_of(encoding, c0, j);
            const uint32_t pair = c < n_col ? word[c / 2] : 0;
            v[j] = __uint_as_float(pair << 16);
            v[j + 1] = __uint_as_float(pair & 0xffff0000U);
        }
    } else {
        const int32_t c = column_of(encoding, c0, 0);
        const uint32_t four = c < n_col ? word[c / 4] : 0;
        const float scale =
            c < n_col ? __uint_as_float(word[scale_word(n_col) + c / SHOAL_GROUP]) : 0.0F;
#pragma unroll
        for (int j = 0; j < 4; j++)
            v[j] = scale * (float)shoal__integer(four, j);
    }
}

__global__ void __launch_bounds__(N_THREAD) pack_rows(shoal_pack p, size_t row_bytes)
{
    const int32_t i = row_of(p.n_col), c0 = first_column(p.n_col);
    if (c0 >= p.n_col)
        return;
    unsigned char *out = p.out + (size_t)i * row_bytes;
    const int64_t from = p.index[i];
    if (p.encoding == SHOAL_WIRE_INT8 && p.x.int8 != nullptr) {
        const int32_t c = c0 + 4 * lane_of();
        if (c >= p.n_col)
            return;
        const shoal_int8_group *group =
            p.x.int8 + from * ((p.n_col + SHOAL_GROUP - 1) / SHOAL_GROUP) + c / SHOAL_GROUP;
        uint32_t *word = reinterpret_cast<uint32_t *>(out);
        word[c / 4] = reinterpret_cast<const uint32_t *>(group->q)[c % SHOAL_GROUP / 4];
        if (c % SHOAL_GROUP == 0)
            word[scale_word(p.n_col) + c / SHOAL_GROUP] = __float_as_uint(group->scale);
        return;
    }
    float v[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int32_t c = column_of(p.encoding, c0, j);
        v[j] = c < p.n_col ? p.x.f32[from * p.n_col + c] : 0.0F;
    }
    store(out, p.encoding, v, c0, p.n_col);
}

__global__ void __launch_bounds__(N_THREAD) unpack_rows(shoal_unpack u, size_t row_bytes)
{
    const int32_t i = row_of(u.n_col), c0 = first_column(u.n_col);
    if (c0 >= u.n_col)
        return;
    const unsigned char *row = u.from + (size_t)i * row_bytes;
    if (u.int8 == nullptr) {
        float v[4];
        load(v, row, u.encoding, c0, u.n_col);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int32_t c = column_of(u.encoding, c0, j);
            if (c < u.n_col)
                u.f32[(int64_t)i * u.n_col + c] = v[j];
        }
        return;
    }
    const int32_t n_group = (u.n_col + SHOAL_GROUP - 1) / SHOAL_GROUP, c = c0 + 4 * lane_of();
    const uint32_t *word = reinterpret_cast<const uint32_t *>(row);
    shoal__quad quad = {0, 0.0F, 0};
    if (c < u.n_col)
        quad.word = word[c / 4];
    if (c < u.n_col && c % SHOAL_GROUP == 0)
        quad.scale = __uint_as_float(word[scale_word(u.n_col) + c / SHOAL_GROUP]);
#pragma unroll
    for (int j = 0; j < 4; j++) { /* what pads the last word is not looked at */
        if (c + j >= u.n_col)
            quad.word &= ~(0xffU << 8 * j);
        quad.sum += shoal__integer(quad.word, j);
    }
#pragma unroll
    for (int apart = SHOAL__GROUP_LANES / 2; apart > 0; apart /= 2)
        quad.sum += __shfl_xor_sync(0xffffffffU, quad.sum, apart);
    if (c / SHOAL_GROUP < n_group)
        shoal__store_quad(u.int8 + (int64_t)i * n_group, c, quad);
}

/* A row that is added, and how often. */
struct term {
    int32_t row; /* -1: none */
    float weight;
};

/* v += the terms [begin, end) in order, by a block: term_of(i) says which, read(x, row) reads. 4
 * rows are read before the first is needed. */
template <typename Term, typename Read>
__device__ __forceinline__ void add_terms(float v[4], int32_t begin, int32_t end,
                                          const Term &term_of, const Read &read)
{
    enum { AHEAD = 4 };
    SHOAL_SHARED(bytes);
    term *list = reinterpret_cast<term *>(bytes);
    for (int32_t at = begin; at < end; at += N_TERM) {
        const int32_t n = end - at < N_TERM ? end - at : N_TERM;
        __syncthreads();
        if ((int32_t)threadIdx.x < n)
            list[threadIdx.x] = term_of(at + (int32_t)threadIdx.x);
        __syncthreads();
        for (int32_t i = 0; i < n; i += AHEAD) {
            float x[AHEAD][4];
#pragma unroll
            for (int a = 0; a < AHEAD; a++)
                if (i + a < n && list[i + a].row >= 0)
                    read(x[a], list[i + a].row);
#pragma unroll
            for (int a = 0; a < AHEAD; a++) {
                if (i + a >= n || list[i + a].row < 0)
                    continue;
#pragma unroll
                for (int j = 0; j < 4; j++)
                    v[j] = fmaf(list[i + a].weight, x[a][j], v[j]);
            }
        }
    }
}

__global__ void __launch_bounds__(N_THREAD) pack_sums(shoal_pack_sums p, size_t row_bytes)
{
    const int32_t i = row_of(p.n_col), c0 = first_column(p.n_col);
    float v[4] = {0.0F, 0.0F, 0.0F, 0.0F};
    add_terms(
        v, p.row_slot[i], p.row_slot[i + 1],
        [&p](int32_t slot) {
            return term{p.slot_done[slot], p.slot_weight[slot]};
        },
        [&p, c0](float x[4], int32_t row) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int32_t c = column_of(p.encoding, c0, j);
                x[j] = c < p.n_col ? p.done[(int64_t)row * p.n_col + c] : 0.0F;
            }
        });
    if (c0 < p.n_col)
        store(p.out + (size_t)i * row_bytes, p.encoding, v, c0, p.n_col);
}

__global__ void __launch_bounds__(N_THREAD) sum_rows(shoal_sum s, size_t row_bytes)
{
    const int32_t i = row_of(s.n_col), c0 = first_column(s.n_col);
    float v[4] = {0.0F, 0.0F, 0.0F, 0.0F};
    add_terms(
        v, 0, s.k,
        [&s, i](int32_t j) {
            const int64_t at = (int64_t)i * s.k + j;
            return term{s.home[at], s.weight != nullptr ? s.weight[at] : 1.0F};
        },
        [&s, row_bytes, c0](float x[4], int32_t row) {
            const int32_t own = row - s.own_first;
            const unsigned char *at = own >= 0 && own < s.n_own ? s.own + (size_t)own * row_bytes
                                                                : s.from + (size_t)row * row_bytes;
            load(x, at, s.encoding, c0, s.n_col);
        });
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int32_t c = column_of(s.encoding, c0, j);
        if (c < s.n_col)
            s.acc[(int64_t)i * s.n_col + c] = v[j];
    }
}

/* Launch a kernel that takes a job and the bytes of a row on the wire. */
template <typename Job>
cudaError_t launch(void (*kernel)(Job, size_t), const Job *job, size_t shared, cudaStream_t stream)
{
    const int64_t n = (int64_t)job->n_row * slabs_of(job->n_col);
    if (n <= 0)
        return cudaSuccess;
    SHOAL_LAUNCH(kernel, dim3((unsigned)n), dim3(N_THREAD), shared, stream, *job,
                 shoal_wire_row_bytes(job->encoding, job->n_col));
    return cudaGetLastError();
}

} // namespace

cudaError_t shoal_cuda_pack_rows(const shoal_pack *pack, cudaStream_t stream)
{
    return launch(pack_rows, pack, 0, stream);
}

cudaError_t shoal_cuda_pack_sums(const shoal_pack_sums *pack, cudaStream_t stream)
{
    return launch(pack_sums, pack, N_TERM * sizeof(term), stream);
}

cudaError_t shoal_cuda_unpack_rows(const shoal_unpack *unpack, cudaStream_t stream)
{
    return launch(unpack_rows, unpack, 0, stream);
}

cudaError_t shoal_cuda_sum_rows(const shoal_sum *sum, cudaStream_t stream)
{
    return launch(sum_rows, sum, N_TERM * sizeof(term), stream);
}
