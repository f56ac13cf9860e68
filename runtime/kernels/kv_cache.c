#include "runtime/kernels/kv_cache.h"

#include <string.h>

static size_t element_bytes(shoal_kv_dtype dtype)
{
    return dtype == SHOAL_KV_F32 ? sizeof(float) : sizeof(uint16_t);
}

void shoal_kv_cache_carve(shoal_kv_cache *cache, shoal_arena *arena, const shoal_kv_shape *shape)
{
    size_t plane = SHOAL_ATTEND_BLOCK * element_bytes(shape->dtype);
    cache->shape = *shape;
    cache->n_block = ((size_t)shape->n_context + SHOAL_ATTEND_BLOCK - 1) / SHOAL_ATTEND_BLOCK;
    cache->value_offset = plane * (size_t)shape->d_k;
    cache->block_bytes = cache->value_offset + (shape->latent ? 0 : plane * (size_t)shape->d_v);
    cache->row_bytes = cache->block_bytes / SHOAL_ATTEND_BLOCK * (size_t)shape->n_head;
    size_t n_block =
        (size_t)shape->n_layer * (size_t)shape->n_slot * (size_t)shape->n_head * cache->n_block;
    cache->data = shoal_arena_take(arena, n_block, cache->block_bytes);
}

static unsigned char *block_at(const shoal_kv_cache *cache, int32_t layer, int32_t slot,
                               int32_t head, int32_t block)
{
    const shoal_kv_shape *s = &cache->shape;
    size_t row = ((size_t)layer * (size_t)s->n_slot + (size_t)slot) * (size_t)s->n_head;
    return cache->data +
           ((row + (size_t)head) * cache->n_block + (size_t)block) * cache->block_bytes;
}

shoal_attend_kv shoal_kv_cache_block(const shoal_kv_cache *cache, int32_t layer, int32_t slot,
                                     int32_t head, int32_t block)
{
    const unsigned char *at = block_at(cache, layer, slot, head, block);
    return (shoal_attend_kv){.key = at,
                             .value = cache->shape.latent ? NULL : at + cache->value_offset,
                             .dtype = cache->shape.dtype,
                             .d_k = cache->shape.d_k,
                             .d_v = cache->shape.d_v,
                             .next = at + cache->block_bytes};
}

/* key [d_k][16] is where the position's lane begins. */
static void store_key_bf16(uint16_t *lane, const shoal_kernels *kernels, const float *key,
                           int32_t d_k)
{
    enum { PART = 64 };
    for (int32_t c0 = 0; c0 < d_k; c0 += PART) {
        uint16_t part[PART];
        int32_t n = d_k - c0 < PART ? d_k - c0 : PART;
        kernels->to_bf16(part, key + c0, n);
        for (int32_t c = 0; c < n; c++)
            lane[(size_t)(c0 + c) * SHOAL_BAND] = part[c];
    }
}

void shoal_kv_cache_store(shoal_kv_cache *cache, const shoal_kernels *kernels, int32_t layer,
                          int32_t slot, int32_t head, int32_t position, const float *key,
                          const float *value)
{
    const shoal_kv_shape *s = &cache->shape;
    void *block = block_at(cache, layer, slot, head, position / SHOAL_ATTEND_BLOCK);
    void *values = (unsigned char *)block + cache->value_offset;
    size_t row = (size_t)(position % SHOAL_ATTEND_BLOCK);
    size_t lane = row / SHOAL_BAND * (size_t)s->d_k * SHOAL_BAND + row % SHOAL_BAND;
    if (s->dtype == SHOAL_KV_F32) {
        for (int32_t c = 0; c < s->d_k; c++)
            ((float *)block)[lane + (size_t)c * SHOAL_BAND] = key[c];
        if (!s->latent)
            memcpy((float *)values + row * (size_t)s->d_v, value, (size_t)s->d_v * sizeof(float));
    } else {
        store_key_bf16((uint16_t *)block + lane, kernels, key, s->d_k);
        if (!s->latent)
            kernels->to_bf16((uint16_t *)values + row * (size_t)s->d_v, value, s->d_v);
    }
}
