/* One layer of the KV cache (kv_cache.h), as device code finds its way in it. Layering: inside
 * kernels/cuda only. */
#ifndef SHOAL_KERNELS_CUDA_CACHE_CUH
#define SHOAL_KERNELS_CUDA_CACHE_CUH

#include "runtime/kernels/cuda/kernels.cuh"
#include "runtime/kernels/cuda/ptx.cuh"

struct shoal__cuda_cache {
    unsigned char *data; /* of the layer: [n_slot, n_head, n_block] blocks */
    int64_t n_block;     /* of a head */
    size_t block_bytes;
    size_t value_offset; /* in a block; latent: not used */
    int32_t n_head, d_k, d_v;
    bool latent; /* MLA: values are the first d_v elements of the keys */
};

static inline shoal__cuda_cache shoal__cuda_cache_of(const shoal_kv_cache *cache, int32_t layer)
{
    const shoal_kv_shape *s = &cache->shape;
    const size_t n_before = (size_t)layer * (size_t)s->n_slot * (size_t)s->n_head * cache->n_block;
    return {cache->data + n_before * cache->block_bytes,
            (int64_t)cache->n_block,
            cache->block_bytes,
            cache->value_offset,
            s->n_head,
            s->d_k,
            s->d_v,
            s->latent};
}

/* An element of the cache, and a value as it is stored there. */
template <typename T> static __device__ __forceinline__ float shoal__element(const T *at);
template <> __device__ __forceinline__ float shoal__element<float>(const float *at)
{
    return *at;
}
template <> __device__ __forceinline__ float shoal__element<uint16_t>(const uint16_t *at)
{
    return shoal_cuda_from_bf16(*at);
}

template <typename T> static __device__ __forceinline__ T shoal__rounded(float x);
template <> __device__ __forceinline__ float shoal__rounded<float>(float x)
{
    return x;
}
template <> __device__ __forceinline__ uint16_t shoal__rounded<uint16_t>(float x)
{
    return shoal_cuda_to_bf16(x);
}

/* Of a head of a slot, the block that holds a position. */
static __device__ __forceinline__ unsigned char *
shoal__block_at(const shoal__cuda_cache &c, int32_t slot, int32_t head, int32_t position)
{
    const int64_t number =
        ((int64_t)slot * c.n_head + head) * c.n_block + position / SHOAL_ATTEND_BLOCK;
    return c.data + number * (int64_t)c.block_bytes;
}

/* Where element d of the key of position p of a block lies. */
static __device__ __forceinline__ int64_t shoal__key_index(int32_t p, int32_t d, int32_t d_k)
{
    return ((int64_t)(p / SHOAL_BAND) * d_k + d) * SHOAL_BAND + p % SHOAL_BAND;
}

#endif
