/* The KV cache of one rank. For each layer, slot (sequence) and kv head: blocks of
 * SHOAL_ATTEND_BLOCK positions, counted from position 0 of the sequence, in the order that
 * attention reads them:
 *
 *     keys    [SHOAL_ATTEND_BLOCK / 16][d_k][16]   16 positions interleaved: a lane is a position
 *     values  [SHOAL_ATTEND_BLOCK][d_v]            GQA; with MLA values are the first elements of
 *                                                  the keys and are not kept twice
 *
 * A position is overwritten by storing it again (drafts). Layering: kernels. */
#ifndef SHOAL_MODEL_KV_CACHE_H
#define SHOAL_MODEL_KV_CACHE_H

#include "runtime/base/arena.h"
#include "runtime/kernels/kernels.h"

typedef struct shoal_kv_shape {
    shoal_kv_dtype dtype;
    int32_t n_layer;
    int32_t n_slot;
    int32_t n_context; /* positions of a slot */
    int32_t n_head;    /* kv heads */
    int32_t d_k;       /* MLA: kv_lora_rank + n_rot */
    int32_t d_v;       /* MLA: kv_lora_rank */
    bool latent;       /* MLA */
} shoal_kv_shape;

typedef struct shoal_kv_cache {
    shoal_kv_shape shape;
    size_t n_block;      /* per head: ceil(n_context / SHOAL_ATTEND_BLOCK) */
    size_t value_offset; /* in a block, in bytes */
    size_t block_bytes;
    size_t row_bytes;    /* of one position in one layer, all heads */
    unsigned char *data; /* [n_layer, n_slot, n_head, n_block] blocks */
} shoal_kv_cache;

void shoal_kv_cache_carve(shoal_kv_cache *cache, shoal_arena *arena, const shoal_kv_shape *shape);

/* One block as attention takes it. Latent: value is NULL, kernels->attend_values makes it. */
shoal_attend_kv shoal_kv_cache_block(const shoal_kv_cache *cache, int32_t layer, int32_t slot,
                                     int32_t head, int32_t block);

/* Store one head's key [d_k] and value [d_v] of a position, f32, rounded to the cache's type.
 * Latent: value is not read. */
void shoal_kv_cache_store(shoal_kv_cache *cache, const shoal_kernels *kernels, int32_t layer,
                          int32_t slot, int32_t head, int32_t position, const float *key,
                          const float *value);

#endif
