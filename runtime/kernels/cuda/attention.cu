/* Attention over the cache, as the CPU's: blocks of 64 positions in order, online softmax, from a
 * fresh state every SHOAL_CUDA_SEGMENT positions; then the segments of a (row, head) are merged in
 * order, the sink is added, and the sum divided.
 *
 * attend   grid: (segment, kv head, row); block 128 threads; the query heads of a kv head are
 * worked on together, as many as fit (QUERIES), so that the cache is read once for them scores: a
 * thread a position and half of the columns, neighbours lie together values: a thread a value
 * element, neighbours lie together shared: queries [QUERIES, d_k], scores [QUERIES, 64] of the
 * block's two halves bound: bytes of the cache in decode; MLA with many heads: fma merge    grid:
 * (query head, row); block 128 threads, a value element each */
#include "runtime/kernels/cuda/kernels.cuh"
#include "runtime/kernels/cuda/numbers.cuh"

namespace
{

enum { N_THREAD = 128, QUERIES = 8, BLOCK = SHOAL_ATTEND_BLOCK };

/* An element of the cache. */
template <typename T> __device__ __forceinline__ float element(const T *at);
template <> __device__ __forceinline__ float element<float>(const float *at)
{
    return *at;
}
template <> __device__ __forceinline__ float element<uint16_t>(const uint16_t *at)
{
    return shoal_cuda_from_bf16(*at);
}

template <typename T> __device__ __forceinline__ T rounded(float x);
template <> __device__ __forceinline__ float rounded<float>(float x)
{
    return x;
}
template <> __device__ __forceinline__ uint16_t rounded<uint16_t>(float x)
{
    return shoal_cuda_to_bf16(x);
}

/* Of a head of a slot, the block that holds a position. */
__device__ __forceinline__ unsigned char *block_at(const shoal_cuda_cache &c, int32_t slot,
                                                   int32_t head, int32_t position)
{
    const int64_t number = ((int64_t)slot * c.n_head + head) * c.n_block + position / BLOCK;
    return static_cast<unsigned char *>(c.data) + number * (int64_t)c.block_bytes;
}

/* Element d of the key of position p of a block, and of its value. */
__device__ __forceinline__ int64_t key_index(int32_t p, int32_t d, int32_t d_k)
{
    return ((int64_t)(p / SHOAL_BAND) * d_k + d) * SHOAL_BAND + p % SHOAL_BAND;
}

template <typename T>
__global__ void __launch_bounds__(N_THREAD)
    store(shoal_cuda_cache c, const float *key, const float *value, const shoal_cuda_place *place)
{
    const int32_t row = (int32_t)blockIdx.y, head = (int32_t)blockIdx.x,
                  position = place[row].position;
    unsigned char *block = block_at(c, place[row].slot, head, position);
    T *keys = reinterpret_cast<T *>(block), *values = reinterpret_cast<T *>(block + c.value_offset);
    const int64_t at = (int64_t)row * c.n_head + head;
    for (int32_t d = (int32_t)threadIdx.x; d < c.d_k; d += N_THREAD)
        keys[key_index(position % BLOCK, d, c.d_k)] = rounded<T>(key[at * c.d_k + d]);
    for (int32_t d = (int32_t)threadIdx.x; !c.latent && d < c.d_v; d += N_THREAD)
        values[(int64_t)(position % BLOCK) * c.d_v + d] = rounded<T>(value[at * c.d_v + d]);
}

/* What a (row, query head) leaves of a segment: max, denominator, then d_v sums. */
__device__ __forceinline__ float *part_at(float *part, int64_t segment, int64_t n_segment,
                                          int64_t query, int32_t d_v)
{
    return part + (query * n_segment + segment) * (d_v + 2);
}

/* p [n, BLOCK] = scaled scores of the positions [lo, hi) of a block; -infinity elsewhere. Two
 * threads a position, of which each adds half of the columns. */
template <typename T>
__device__ void score_block(float *p, float *half_sum, const float *q, const T *keys, int32_t n,
                            int32_t d_k, float scale, int32_t lo, int32_t hi)
{
    const int32_t at = (int32_t)threadIdx.x % BLOCK, half = (int32_t)threadIdx.x / BLOCK;
    const int32_t d0 = half * ((d_k + 1) / 2), d1 = half == 0 ? (d_k + 1) / 2 : d_k;
    float sum[QUERIES] = {};
    if (at >= lo && at < hi) {
        for (int32_t d = d0; d < d1; d++) {
            const float k = element(&keys[key_index(at, d, d_k)]);
#pragma unroll
            for (int i = 0; i < QUERIES; i++)
                sum[i] = fmaf(q[(i < n ? i : 0) * d_k + d], k, sum[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < QUERIES; i++)
        if (half == 1 && i < n)
            half_sum[i * BLOCK + at] = sum[i];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < QUERIES; i++)
        if (half == 0 && i < n)
            p[i * BLOCK + at] =
                at >= lo && at < hi ? scale * (sum[i] + half_sum[i * BLOCK + at]) : -INFINITY;
    __syncthreads();
}

/* The online softmax of one query, by one warp: p becomes weights; returns what the sums so far are
 * to be multiplied with. */
__device__ float update(float *p, float *max, float *denom, int32_t lane)
{
    const float a = p[lane], b = p[lane + 32], old = *max;
    float largest = shoal_cuda_warp_max(a < b ? b : a);
    largest = old < largest ? largest : old;
    const float wa = shoal_cuda_exp(a - largest), wb = shoal_cuda_exp(b - largest);
    const float shrink = shoal_cuda_exp(old - largest), sum = shoal_cuda_warp_sum(wa + wb);
    p[lane] = wa;
    p[lane + 32] = wb;
    *denom = fmaf(*denom, shrink, sum);
    *max = largest;
    return shrink;
}

enum { PER_THREAD = 4 }; /* value elements of a thread: d_v <= PER_THREAD * N_THREAD */

template <typename T>
__global__ void __launch_bounds__(N_THREAD, 4)
    attend(float *part, shoal_cuda_cache c, shoal_cuda_attention a, int32_t n_segment,
           int32_t query0)
{
    SHOAL_SHARED(bytes);
    float *q = reinterpret_cast<float *>(bytes), *p = q + QUERIES * c.d_k,
          *half_sum = p + QUERIES * BLOCK, *shrink = half_sum + QUERIES * BLOCK;
    const int32_t row = (int32_t)blockIdx.z, head = (int32_t)blockIdx.y,
                  segment = (int32_t)blockIdx.x;
    const int32_t per_head = a.n_query_head / c.n_head, lane = (int32_t)threadIdx.x % 32,
                  warp = (int32_t)threadIdx.x / 32;
    const int32_t n = per_head - query0 < QUERIES ? per_head - query0 : QUERIES;
    const int32_t end = a.place[row].position + 1,
                  begin = a.window > 0 && end > a.window ? end - a.window : 0;
    const int32_t from = segment * SHOAL_CUDA_SEGMENT,
                  to = from + SHOAL_CUDA_SEGMENT < end ? from + SHOAL_CUDA_SEGMENT : end;
    const int64_t query = (int64_t)row * a.n_query_head + (int64_t)head * per_head + query0;
    for (int32_t i = (int32_t)threadIdx.x; i < n * c.d_k; i += N_THREAD)
        q[i] = a.query[query * c.d_k + i];
    float acc[QUERIES][PER_THREAD] = {}, max[QUERIES / (N_THREAD / 32)],
          denom[QUERIES / (N_THREAD / 32)];
#pragma unroll
    for (int i = 0; i < QUERIES / (N_THREAD / 32); i++)
        max[i] = -INFINITY, denom[i] = 0.0F;
    __syncthreads();
    for (int32_t base = from > begin / BLOCK * BLOCK ? from : begin / BLOCK * BLOCK; base < to;
         base += BLOCK) {
        const unsigned char *block = block_at(c, a.place[row].slot, head, base);
        const T *keys = reinterpret_cast<const T *>(block),
                *values = reinterpret_cast<const T *>(block + c.value_offset);
        const int32_t lo = begin > base ? begin - base : 0,
                      hi = to - base < BLOCK ? to - base : BLOCK;
        score_block(p, half_sum, q, keys, n, c.d_k, a.scale, lo, hi);
#pragma unroll
        for (int j = 0; j < QUERIES / (N_THREAD / 32); j++) { /* query j * 4 + warp */
            const int32_t i = j * (N_THREAD / 32) + warp;
            if (i < n) {
                const float s = update(p + i * BLOCK, &max[j], &denom[j], lane);
                if (lane == 0)
                    shrink[i] = s;
            }
        }
        __syncthreads();
#pragma unroll
        for (int j = 0; j < PER_THREAD; j++) {
            const int32_t d = (int32_t)threadIdx.x + j * N_THREAD;
            if (d >= c.d_v)
                continue;
#pragma unroll
            for (int i = 0; i < QUERIES; i++)
                acc[i][j] *= i < n ? shrink[i] : 0.0F;
            for (int32_t at = lo; at < hi; at++) {
                const float v = element(c.latent ? &keys[key_index(at, d, c.d_k)]
                                                 : &values[(int64_t)at * c.d_v + d]);
#pragma unroll
                for (int i = 0; i < QUERIES; i++)
                    acc[i][j] = fmaf(p[(i < n ? i : 0) * BLOCK + at], v, acc[i][j]);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int j = 0; j < QUERIES / (N_THREAD / 32); j++) {
        const int32_t i = j * (N_THREAD / 32) + warp;
        if (i < n && lane == 0) {
            float *left = part_at(part, segment, n_segment, query + i, c.d_v);
            left[0] = max[j];
            left[1] = denom[j];
        }
    }
#pragma unroll
    for (int i = 0; i < QUERIES; i++) {
#pragma unroll
        for (int j = 0; j < PER_THREAD; j++) {
            const int32_t d = (int32_t)threadIdx.x + j * N_THREAD;
            if (i < n && d < c.d_v)
                part_at(part, segment, n_segment, query + i, c.d_v)[2 + d] = acc[i][j];
        }
    }
}

__global__ void __launch_bounds__(N_THREAD)
    merge(float *out, const float *part, int32_t n_segment, const float *sink, int32_t d_v)
{
    const int64_t query = (int64_t)blockIdx.y * gridDim.x + blockIdx.x;
    const float *first = part + query * n_segment * (d_v + 2);
    for (int32_t d = (int32_t)threadIdx.x; d < d_v; d += N_THREAD) {
        float max = -INFINITY, denom = 0.0F, sum = 0.0F;
        for (int32_t s = 0; s < n_segment; s++) {
            const float *one = first + (int64_t)s * (d_v + 2);
            if (!(one[0] > -INFINITY))
                continue; /* no position of this segment is seen */
            const float most = max < one[0] ? one[0] : max;
            const float keep = shoal_cuda_exp(max - most), take = shoal_cuda_exp(one[0] - most);
            denom = fmaf(one[1], take, denom * keep);
            sum = fmaf(one[2 + d], take, sum * keep);
            max = most;
        }
        if (sink != nullptr) {
            const float score = sink[blockIdx.x], most = max < score ? score : max,
                        keep = shoal_cuda_exp(max - most);
            denom = fmaf(denom, keep, shoal_cuda_exp(score - most));
            sum *= keep;
        }
        out[query * d_v + d] = sum / denom;
    }
}

int32_t segments_of(int32_t n_position)
{
    return (n_position + SHOAL_CUDA_SEGMENT - 1) / SHOAL_CUDA_SEGMENT;
}

size_t shared_bytes(const shoal_cuda_cache *cache)
{
    return (size_t)QUERIES * ((size_t)cache->d_k + 2 * BLOCK + 1) * sizeof(float);
}

template <typename T>
cudaError_t launch_attend(float *out, const shoal_cuda_cache *cache, const shoal_cuda_attention *a,
                          cudaStream_t stream)
{
    const int32_t n_segment = segments_of(a->n_position),
                  per_head = a->n_query_head / cache->n_head;
    const dim3 grid((unsigned)n_segment, (unsigned)cache->n_head, (unsigned)a->n_row);
    for (int32_t query0 = 0; query0 < per_head; query0 += QUERIES)
        SHOAL_LAUNCH((attend<T>), grid, dim3(N_THREAD), shared_bytes(cache), stream, a->part,
                     *cache, *a, n_segment, query0);
    SHOAL_LAUNCH(merge, dim3((unsigned)a->n_query_head, (unsigned)a->n_row), dim3(N_THREAD), 0,
                 stream, out, a->part, n_segment, a->sink, cache->d_v);
    return cudaGetLastError();
}

} // namespace

cudaError_t shoal_cuda_store(const shoal_cuda_cache *cache, const float *key, const float *value,
                             const shoal_cuda_place *place, int32_t n_row, cudaStream_t stream)
{
    if (n_row == 0)
        return cudaSuccess;
    const dim3 grid((unsigned)cache->n_head, (unsigned)n_row);
    if (cache->dtype == SHOAL_KV_F32)
        SHOAL_LAUNCH((store<float>), grid, dim3(N_THREAD), 0, stream, *cache, key, value, place);
    else
        SHOAL_LAUNCH((store<uint16_t>), grid, dim3(N_THREAD), 0, stream, *cache, key, value, place);
    return cudaGetLastError();
}

size_t shoal_cuda_attend_part(int32_t n_row, int32_t n_query_head, int32_t n_position, int32_t d_v)
{
    return (size_t)n_row * (size_t)n_query_head * (size_t)segments_of(n_position) *
           (size_t)(d_v + 2);
}

cudaError_t shoal_cuda_attend(float *out, const shoal_cuda_cache *cache,
                              const shoal_cuda_attention *attend, cudaStream_t stream)
{
    if (attend->n_row == 0)
        return cudaSuccess;
    if (cache->d_v > PER_THREAD * N_THREAD || attend->n_query_head % cache->n_head != 0)
        return cudaErrorInvalidValue;
    return cache->dtype == SHOAL_KV_F32 ? launch_attend<float>(out, cache, attend, stream)
                                        : launch_attend<uint16_t>(out, cache, attend, stream);
}
