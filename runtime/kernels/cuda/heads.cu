/* Between the projections of attention and its core, in one launch: heads normed, rotated, stored.
 *
 * GQA   grid: a block of 128 threads for each query and key head of a row; a key's block stores the
 *       value, too; shared d_k + 4 floats
 * MLA   grid: a block of 128 threads for a row's latent and key, others for 128 pairs of the row's
 *       query heads each; shared d_k + 4 floats
 * bound by launching it */
#include "runtime/kernels/cuda/cache.cuh"
#include "runtime/kernels/cuda/numbers.cuh"

namespace
{

enum { N_THREAD = 128 };

__device__ __forceinline__ int32_t thread_of()
{
    return (int32_t)threadIdx.x;
}

/* What is done with the rows' rotations. */
struct rotation {
    const float *cos, *sin; /* [n_row, n_pair] */
    int32_t n_pair;
    bool interleaved;
};

rotation rotation_of(const shoal_rotation *r)
{
    return {r->cos, r->sin, r->n_rot / 2, r->interleaved};
}

/* Pair `pair` of a head whose rotated values begin at `from`, to the same places of `to`. */
__device__ __forceinline__ void rotate(float *to, const float *from, const rotation &r, int64_t row,
                                       int32_t pair)
{
    const int32_t first = r.interleaved ? 2 * pair : pair,
                  second = r.interleaved ? 2 * pair + 1 : pair + r.n_pair;
    const float cos = r.cos[row * r.n_pair + pair], sin = r.sin[row * r.n_pair + pair];
    const float a = from[first], b = from[second];
    to[first] = fmaf(a, cos, -(b * sin));
    to[second] = fmaf(a, sin, b * cos);
}

/* v [n] in shared memory, normed by the block. room: a float a warp. */
__device__ void norm(float *v, float *room, int32_t n, const float *weight, float eps)
{
    float sum = 0.0F;
    for (int32_t d = thread_of(); d < n; d += N_THREAD)
        sum = fmaf(v[d], v[d], sum);
    const float mean = shoal_cuda_block_sum(sum, room) / (float)n;
    const float factor = 1.0F / sqrtf(mean + eps);
    for (int32_t d = thread_of(); d < n; d += N_THREAD)
        v[d] = weight[d] * (v[d] * factor);
    __syncthreads();
}

template <typename T>
__device__ void store_key(const shoal__cuda_cache &c, shoal_place place, int32_t head,
                          const float *key)
{
    T *keys = reinterpret_cast<T *>(shoal__block_at(c, place.slot, head, place.position));
    for (int32_t d = thread_of(); d < c.d_k; d += N_THREAD)
        keys[shoal__key_index(place.position % SHOAL_ATTEND_BLOCK, d, c.d_k)] =
            shoal__rounded<T>(key[d]);
}

template <typename T>
__device__ void store_value(const shoal__cuda_cache &c, shoal_place place, int32_t head,
                            const float *value)
{
    T *values = reinterpret_cast<T *>(shoal__block_at(c, place.slot, head, place.position) +
                                      c.value_offset) +
                (int64_t)(place.position % SHOAL_ATTEND_BLOCK) * c.d_v;
    for (int32_t d = thread_of(); d < c.d_v; d += N_THREAD)
        values[d] = shoal__rounded<T>(value[d]);
}

struct heads_job {
    float *q, *kv;
    const float *q_norm, *k_norm;
    const shoal_place *place;
    int32_t n_head;
    float eps;
    rotation r;
};

template <typename T>
__global__ void __launch_bounds__(N_THREAD) place_heads(heads_job job, shoal__cuda_cache c)
{
    SHOAL_SHARED(bytes);
    float *v = reinterpret_cast<float *>(bytes), *room = v + c.d_k;
    const int32_t per_row = job.n_head + c.n_head;
    const int64_t row = blockIdx.x / (uint32_t)per_row;
    const int32_t head = (int32_t)(blockIdx.x % (uint32_t)per_row), kv_head = head - job.n_head;
    const bool is_key = kv_head >= 0;
    float *at = is_key ? job.kv + (row * 2 * c.n_head + kv_head) * c.d_k
                       : job.q + (row * job.n_head + head) * c.d_k;
    for (int32_t d = thread_of(); d < c.d_k; d += N_THREAD)
        v[d] = at[d];
    __syncthreads();
    const float *weight = is_key ? job.k_norm : job.q_norm;
    if (weight != nullptr)
        norm(v, room, c.d_k, weight, job.eps);
    for (int32_t pair = thread_of(); pair < job.r.n_pair; pair += N_THREAD)
        rotate(v, v, job.r, row, pair);
    __syncthreads();
    for (int32_t d = thread_of(); d < c.d_k; d += N_THREAD)
        at[d] = v[d];
    if (is_key) {
        store_key<T>(c, job.place[row], kv_head, v);
        store_value<T>(c, job.place[row], kv_head, at + (int64_t)c.n_head * c.d_k);
    }
}

struct latent_job {
    float *kv;
    const float *q;
    float *q_absorbed;
    const float *latent_norm;
    const shoal_place *place;
    int32_t n_head, nope_dim;
    int32_t n_block; /* of a row */
    float eps;
    rotation r;
};

template <typename T>
__global__ void __launch_bounds__(N_THREAD) place_latent(latent_job job, shoal__cuda_cache c)
{
    SHOAL_SHARED(bytes);
    float *v = reinterpret_cast<float *>(bytes), *room = v + c.d_k;
    const rotation &r = job.r;
    const int64_t row = blockIdx.x / (uint32_t)job.n_block;
    const int32_t block = (int32_t)(blockIdx.x % (uint32_t)job.n_block);
    if (block > 0) { /* query heads */
        const int32_t i = (block - 1) * N_THREAD + thread_of();
        if (i >= job.n_head * r.n_pair)
            return;
        const int64_t head = row * job.n_head + i / r.n_pair;
        rotate(job.q_absorbed + head * c.d_k + c.d_v,
               job.q + head * (job.nope_dim + 2 * r.n_pair) + job.nope_dim, r, row, i % r.n_pair);
        return;
    }
    float *kv = job.kv + row * c.d_k;
    for (int32_t d = thread_of(); d < c.d_k; d += N_THREAD)
        v[d] = kv[d];
    __syncthreads();
    norm(v, room, c.d_v, job.latent_norm, job.eps);
    for (int32_t pair = thread_of(); pair < r.n_pair; pair += N_THREAD)
        rotate(v + c.d_v, v + c.d_v, r, row, pair);
    __syncthreads();
    for (int32_t d = thread_of(); d < c.d_k; d += N_THREAD)
        kv[d] = v[d];
    store_key<T>(c, job.place[row], 0, v);
}

size_t shared_bytes(const shoal__cuda_cache &c)
{
    return ((size_t)c.d_k + N_THREAD / 32) * sizeof(float);
}

} // namespace

cudaError_t shoal_cuda_place_heads(const shoal_place_heads *s, const shoal_place *place,
                                   cudaStream_t stream)
{
    const shoal__cuda_cache c = shoal__cuda_cache_of(s->cache, s->layer);
    const heads_job job = {s->q,  s->kv,     s->q_norm,   s->k_norm,
                           place, s->n_head, s->norm_eps, rotation_of(&s->rotation)};
    const int64_t n = (int64_t)s->n_row * (s->n_head + c.n_head);
    if (n <= 0)
        return cudaSuccess;
    if (s->cache->shape.dtype == SHOAL_KV_F32)
        SHOAL_LAUNCH((place_heads<float>), dim3((unsigned)n), dim3(N_THREAD), shared_bytes(c),
                     stream, job, c);
    else
        SHOAL_LAUNCH((place_heads<uint16_t>), dim3((unsigned)n), dim3(N_THREAD), shared_bytes(c),
                     stream, job, c);
    return cudaGetLastError();
}

cudaError_t shoal_cuda_place_latent(const shoal_place_latent *s, const shoal_place *place,
                                    cudaStream_t stream)
{
    const shoal__cuda_cache c = shoal__cuda_cache_of(s->cache, s->layer);
    const int32_t n_pair = s->n_head * (s->rotation.n_rot / 2);
    const latent_job job = {s->kv,         s->q,
                            s->q_absorbed, s->latent_norm,
                            place,         s->n_head,
                            s->nope_dim,   1 + (n_pair + N_THREAD - 1) / N_THREAD,
                            s->norm_eps,   rotation_of(&s->rotation)};
    const int64_t n = (int64_t)s->n_row * job.n_block;
    if (n <= 0)
        return cudaSuccess;
    if (s->cache->shape.dtype == SHOAL_KV_F32)
        SHOAL_LAUNCH((place_latent<float>), dim3((unsigned)n), dim3(N_THREAD), shared_bytes(c),
                     stream, job, c);
    else
        SHOAL_LAUNCH((place_latent<uint16_t>), dim3((unsigned)n), dim3(N_THREAD), shared_bytes(c),
                     stream, job, c);
    return cudaGetLastError();
}
