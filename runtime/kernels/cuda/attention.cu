/* Attention over the cache, as the CPU's: blocks of 64 positions in order, online softmax, from a
 * fresh state every SHOAL_ATTEND_SEGMENT positions; then the segments of a (row, head) are merged
 * in order, the sink is added, and the sum divided.
 *
 * attend  grid: (segment of those that a row sees, kv head and QUERIES of its query heads, row);
 *         block 128 threads. Those query heads are worked on together, so that the cache is read
 *         once for them. Scores: a thread a position and half of the columns, neighbours lie
 *         together; values: a thread a value element, neighbours lie together.
 * shared  queries [QUERIES, d_k], scores [QUERIES, 64] of the block's two halves, factors [QUERIES]
 * bound   bytes of the cache in decode; fma in prefill and with the many heads of MLA
 * merge   grid: (query head, row); block 128 threads, a value element each. Not launched where no
 *         row of the launch sees more than one segment. */
#include "runtime/kernels/cuda/cache.cuh"
#include "runtime/kernels/cuda/numbers.cuh"

namespace
{

enum {
    N_THREAD = 128,
    N_WARP = N_THREAD / 32,
    QUERIES = 8,
    BLOCK = SHOAL_ATTEND_BLOCK,
    SEGMENT = SHOAL_ATTEND_SEGMENT,
    PER_THREAD = 4, /* value elements of a thread: d_v <= PER_THREAD * N_THREAD */
    N_ROW_MAX = 65535
};

/* Rows of a launch. */
struct rows_job {
    float *out;         /* [n_row, n_head, d_v] */
    const float *query; /* [n_row, n_head, d_k] */
    const shoal_place *place;
    float *part;             /* [n_row, n_head, n_segment] of max, denominator, d_v sums */
    const float *sink;       /* [n_head] or NULL */
    int32_t n_head, n_split; /* n_split: parts of a kv head's query heads */
    int32_t n_segment;       /* most that a row sees; 1: there are no parts, out is finished */
    int32_t window;
    float scale;
};

/* The first position that the row at `position` sees. */
__device__ __forceinline__ int32_t oldest(int32_t window, int32_t position)
{
    return window > 0 && position >= window ? position + 1 - window : 0;
}

/* Segments of positions that it sees. */
__device__ __forceinline__ int32_t segments_of(int32_t window, int32_t position)
{
    return position / SEGMENT - oldest(window, position) / SEGMENT + 1;
}

/* What a (row, query head) leaves of its segment number `segment`. */
__device__ __forceinline__ float *part_at(const rows_job &job, int64_t query, int32_t segment,
                                          int32_t d_v)
{
    return job.part + (query * job.n_segment + segment) * (d_v + 2);
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
            const float k = shoal__element(&keys[shoal__key_index(at, d, d_k)]);
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

/* What the sink makes of a finished state: what the sums are multiplied with, and the denominator.
 */
__device__ __forceinline__ float add_sink(float max, float *denom, const float *sink, int32_t head)
{
    if (sink == nullptr)
        return 1.0F;
    const float score = sink[head], most = max < score ? score : max,
                keep = shoal_cuda_exp(max - most);
    *denom = fmaf(*denom, keep, shoal_cuda_exp(score - most));
    return keep;
}

/* The QUERIES running sums of a block: those of query i by thread and value element; max and
 * denominator of query j * N_WARP + warp in the warp's lanes. */
struct sums {
    float acc[QUERIES][PER_THREAD];
    float max[QUERIES / N_WARP], denom[QUERIES / N_WARP];
};

/* acc += p * values of the positions [lo, hi) of a block. */
template <typename T>
__device__ __forceinline__ void add_values(sums *s, const float *p, const float *shrink,
                                           const unsigned char *block, const shoal__cuda_cache &c,
                                           int32_t n, int32_t lo, int32_t hi)
{
    const T *keys = reinterpret_cast<const T *>(block),
            *values = reinterpret_cast<const T *>(block + c.value_offset);
#pragma unroll
    for (int j = 0; j < PER_THREAD; j++) {
        const int32_t d = (int32_t)threadIdx.x + j * N_THREAD;
        if (d >= c.d_v)
            continue;
#pragma unroll
        for (int i = 0; i < QUERIES; i++)
            s->acc[i][j] *= i < n ? shrink[i] : 0.0F;
        for (int32_t at = lo; at < hi; at++) {
            const float v = shoal__element(c.latent ? &keys[shoal__key_index(at, d, c.d_k)]
                                                    : &values[(int64_t)at * c.d_v + d]);
#pragma unroll
            for (int i = 0; i < QUERIES; i++)
                s->acc[i][j] = fmaf(p[(i < n ? i : 0) * BLOCK + at], v, s->acc[i][j]);
        }
    }
}

/* Where a row has more than one segment: the state and the sums, for merge. query: the first. */
__device__ __forceinline__ void leave_parts(const rows_job &job, const sums &s, int64_t query,
                                            int32_t n, int32_t d_v)
{
    const int32_t segment = (int32_t)blockIdx.x, warp = (int32_t)threadIdx.x / 32;
#pragma unroll
    for (int j = 0; j < QUERIES / N_WARP; j++) {
        const int32_t i = j * N_WARP + warp;
        if (i < n && threadIdx.x % 32 == 0) {
            float *left = part_at(job, query + i, segment, d_v);
            left[0] = s.max[j];
            left[1] = s.denom[j];
        }
    }
#pragma unroll
    for (int i = 0; i < QUERIES; i++) {
#pragma unroll
        for (int j = 0; j < PER_THREAD; j++) {
            const int32_t d = (int32_t)threadIdx.x + j * N_THREAD;
            if (i < n && d < d_v)
                part_at(job, query + i, segment, d_v)[2 + d] = s.acc[i][j];
        }
    }
}

/* Where it has one: the sink, and the division. room: [2, QUERIES] shared. */
__device__ __forceinline__ void finish(const rows_job &job, const sums &s, int64_t query, int32_t n,
                                       int32_t d_v, float *room)
{
    const int32_t warp = (int32_t)threadIdx.x / 32;
#pragma unroll
    for (int j = 0; j < QUERIES / N_WARP; j++) {
        const int32_t i = j * N_WARP + warp;
        if (i < n && threadIdx.x % 32 == 0) {
            float denom = s.denom[j];
            room[i] = add_sink(s.max[j], &denom, job.sink, (int32_t)((query + i) % job.n_head));
            room[QUERIES + i] = denom;
        }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < QUERIES; i++) {
#pragma unroll
        for (int j = 0; j < PER_THREAD; j++) {
            const int32_t d = (int32_t)threadIdx.x + j * N_THREAD;
            if (i < n && d < d_v)
                job.out[(query + i) * d_v + d] = s.acc[i][j] * room[i] / room[QUERIES + i];
        }
    }
}

template <typename T>
__global__ void __launch_bounds__(N_THREAD, 3) attend(rows_job job, shoal__cuda_cache c)
{
    SHOAL_SHARED(bytes);
    float *q = reinterpret_cast<float *>(bytes), *p = q + QUERIES * c.d_k,
          *half_sum = p + QUERIES * BLOCK, *shrink = half_sum + QUERIES * BLOCK;
    const int32_t row = (int32_t)blockIdx.z, head = (int32_t)blockIdx.y / job.n_split;
    const int32_t per_head = job.n_head / c.n_head,
                  query0 = (int32_t)blockIdx.y % job.n_split * QUERIES,
                  n = per_head - query0 < QUERIES ? per_head - query0 : QUERIES;
    const shoal_place place = job.place[row];
    const int32_t begin = oldest(job.window, place.position), end = place.position + 1;
    const int32_t from = (begin / SEGMENT + (int32_t)blockIdx.x) * SEGMENT,
                  to = from + SEGMENT < end ? from + SEGMENT : end;
    if (from >= end)
        return;
    const int64_t query = (int64_t)row * job.n_head + (int64_t)head * per_head + query0;
    for (int32_t i = (int32_t)threadIdx.x; i < n * c.d_k; i += N_THREAD)
        q[i] = job.query[query * c.d_k + i];
    sums s = {};
#pragma unroll
    for (int i = 0; i < QUERIES / N_WARP; i++)
        s.max[i] = -INFINITY;
    __syncthreads();
    for (int32_t base = from > begin / BLOCK * BLOCK ? from : begin / BLOCK * BLOCK; base < to;
         base += BLOCK) {
        const unsigned char *block = shoal__block_at(c, place.slot, head, base);
        const int32_t lo = begin > base ? begin - base : 0,
                      hi = to - base < BLOCK ? to - base : BLOCK;
        score_block(p, half_sum, q, reinterpret_cast<const T *>(block), n, c.d_k, job.scale, lo,
                    hi);
#pragma unroll
        for (int j = 0; j < QUERIES / N_WARP; j++) {
            const int32_t i = j * N_WARP + (int32_t)threadIdx.x / 32;
            if (i < n) {
                const float factor =
                    update(p + i * BLOCK, &s.max[j], &s.denom[j], (int32_t)threadIdx.x % 32);
                if (threadIdx.x % 32 == 0)
                    shrink[i] = factor;
            }
        }
        __syncthreads();
        add_values<T>(&s, p, shrink, block, c, n, lo, hi);
        __syncthreads();
    }
    if (job.n_segment > 1)
        leave_parts(job, s, query, n, c.d_v);
    else
        finish(job, s, query, n, c.d_v, p);
}

__global__ void __launch_bounds__(N_THREAD) merge(rows_job job, int32_t d_v)
{
    const int32_t row = (int32_t)blockIdx.y, head = (int32_t)blockIdx.x;
    const int64_t query = (int64_t)row * job.n_head + head;
    const int32_t n_segment = segments_of(job.window, job.place[row].position);
    for (int32_t d = (int32_t)threadIdx.x; d < d_v; d += N_THREAD) {
        float max = -INFINITY, denom = 0.0F, sum = 0.0F;
        for (int32_t s = 0; s < n_segment; s++) {
            const float *one = part_at(job, query, s, d_v);
            const float most = max < one[0] ? one[0] : max;
            const float keep = shoal_cuda_exp(max - most), take = shoal_cuda_exp(one[0] - most);
            denom = fmaf(one[1], take, denom * keep);
            sum = fmaf(one[2 + d], take, sum * keep);
            max = most;
        }
        sum *= add_sink(max, &denom, job.sink, head);
        job.out[query * d_v + d] = sum / denom;
    }
}

size_t shared_bytes(const shoal__cuda_cache &cache)
{
    return (size_t)QUERIES * ((size_t)cache.d_k + 2 * BLOCK + 1) * sizeof(float);
}

template <typename T>
cudaError_t launch_rows(const rows_job &job, const shoal__cuda_cache &c, int32_t n_row,
                        cudaStream_t stream)
{
    const dim3 grid((unsigned)job.n_segment, (unsigned)(c.n_head * job.n_split), (unsigned)n_row);
    SHOAL_LAUNCH((attend<T>), grid, dim3(N_THREAD), shared_bytes(c), stream, job, c);
    if (job.n_segment > 1)
        SHOAL_LAUNCH(merge, dim3((unsigned)job.n_head, (unsigned)n_row), dim3(N_THREAD), 0, stream,
                     job, c.d_v);
    return cudaGetLastError();
}

/* Rows whose parts there is room for, if each has n_segment. It does not depend on where single
 * rows stand: launches of equal n_token and n_segment are the same ones. */
int32_t rows_that_fit(const shoal_attend *a, int32_t n_segment)
{
    const size_t row_parts =
        (size_t)a->n_head * (size_t)n_segment * ((size_t)a->cache->shape.d_v + 2);
    const size_t n = n_segment > 1 ? a->room->n_part / row_parts : (size_t)N_ROW_MAX;
    return n < (size_t)N_ROW_MAX ? (int32_t)n : N_ROW_MAX;
}

} // namespace

cudaError_t shoal_cuda_attend(const shoal_attend *a, const shoal_place *place, cudaStream_t stream)
{
    const shoal__cuda_cache c = shoal__cuda_cache_of(a->cache, a->layer);
    if (a->n_token > 0 && (c.d_v > PER_THREAD * N_THREAD || a->n_head % c.n_head != 0))
        return cudaErrorInvalidValue;
    cudaError_t error = cudaSuccess;
    const int32_t n_segment = shoal_attend_most_segments(a->place, a->n_token, a->window);
    const int32_t n_fit = rows_that_fit(a, n_segment);
    if (n_fit == 0)
        return cudaErrorInvalidValue;
    for (int32_t row = 0; row < a->n_token && error == cudaSuccess; row += n_fit) {
        const int32_t n_row = a->n_token - row < n_fit ? a->n_token - row : n_fit;
        rows_job job = {};
        job.n_segment = n_segment;
        const int64_t query = (int64_t)row * a->n_head;
        job.out = a->out + query * c.d_v;
        job.query = a->query + query * c.d_k;
        job.place = place + row;
        job.part = a->room->part;
        job.sink = a->sinks;
        job.n_head = a->n_head;
        job.n_split = (a->n_head / c.n_head + QUERIES - 1) / QUERIES;
        job.window = a->window;
        job.scale = a->scale;
        error = a->cache->shape.dtype == SHOAL_KV_F32
                    ? launch_rows<float>(job, c, n_row, stream)
                    : launch_rows<uint16_t>(job, c, n_row, stream);
    }
    return error;
}
