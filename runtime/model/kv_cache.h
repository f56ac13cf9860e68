/* The KV cache of one rank: for each layer and slot (sequence), rows of kv_width values in blocks
 * of SHOAL_ATTEND_BLOCK positions. MLA row: latent (kv_lora_rank), then the rotated shared key. GQA
 * row: keys of all kv heads, then values. Blocks are what attention merges in order, so they are
 * counted from position 0 of the sequence. Layering: inside model. */
#ifndef SHOAL_MODEL_KV_CACHE_H
#define SHOAL_MODEL_KV_CACHE_H

#include "runtime/base/arena.h"
#include "runtime/kernels/kernels.h"

typedef struct shoal_kv_cache {
    shoal_kv_dtype dtype;
    int32_t n_layer;
    int32_t n_slot;
    int32_t n_block;  /* per slot: ceil(n_context / SHOAL_ATTEND_BLOCK) */
    int32_t kv_width; /* values per row */
    size_t row_bytes;
    unsigned char *data; /* [n_layer, n_slot, n_block, SHOAL_ATTEND_BLOCK, kv_width] */
} shoal_kv_cache;

void shoal_kv_cache_carve(shoal_kv_cache *cache, shoal_arena *arena, shoal_kv_dtype dtype,
                          int32_t n_layer, int32_t n_slot, int32_t n_context, int32_t kv_width);

/* First row of a block. */
const void *shoal_kv_cache_block(const shoal_kv_cache *cache, int32_t layer, int32_t slot,
                                 int32_t block);

/* Store n values (f32, rounded to the cache's type) at column `column` of the row of `position`. */
void shoal_kv_cache_store(shoal_kv_cache *cache, const shoal_kernels *kernels, int32_t layer,
                          int32_t slot, int32_t position, int32_t column, const float *value,
                          int32_t n);

#endif
