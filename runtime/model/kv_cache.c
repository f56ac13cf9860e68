#include "runtime/model/kv_cache.h"

#include <string.h>

static size_t element_bytes(shoal_kv_dtype dtype)
{
    return dtype == SHOAL_KV_F32 ? sizeof(float) : sizeof(uint16_t);
}

void shoal_kv_cache_carve(shoal_kv_cache *cache, shoal_arena *arena, shoal_kv_dtype dtype,
                          int32_t n_layer, int32_t n_slot, int32_t n_context, int32_t kv_width)
{
    cache->dtype = dtype;
    cache->n_layer = n_layer;
    cache->n_slot = n_slot;
    cache->n_block = (n_context + SHOAL_ATTEND_BLOCK - 1) / SHOAL_ATTEND_BLOCK;
    cache->kv_width = kv_width;
    cache->row_bytes = (size_t)kv_width * element_bytes(dtype);
    size_t n_row = (size_t)n_layer * (size_t)n_slot * (size_t)cache->n_block * SHOAL_ATTEND_BLOCK;
    cache->data = shoal_arena_take(arena, n_row, cache->row_bytes);
}

static size_t row_index(const shoal_kv_cache *cache, int32_t layer, int32_t slot, int32_t position)
{
    size_t first = ((size_t)layer * (size_t)cache->n_slot + (size_t)slot) * (size_t)cache->n_block *
                   SHOAL_ATTEND_BLOCK;
    return first + (size_t)position;
}

const void *shoal_kv_cache_block(const shoal_kv_cache *cache, int32_t layer, int32_t slot,
                                 int32_t block)
{
    return cache->data +
           row_index(cache, layer, slot, block * SHOAL_ATTEND_BLOCK) * cache->row_bytes;
}

void shoal_kv_cache_store(shoal_kv_cache *cache, const shoal_kernels *kernels, int32_t layer,
                          int32_t slot, int32_t position, int32_t column, const float *value,
                          int32_t n)
{
    unsigned char *row = cache->data + row_index(cache, layer, slot, position) * cache->row_bytes;
    if (cache->dtype == SHOAL_KV_F32)
        memcpy(row + (size_t)column * sizeof(float), value, (size_t)n * sizeof(float));
    else
        kernels->to_bf16((uint16_t *)(void *)row + column, value, n);
}
