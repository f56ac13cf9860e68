/* The attention core over the cache, for GQA and absorbed MLA alike: what it reads, and the room
 * that it works in. Queries that share a kv head are cut into tiles of (row, head) pairs, positions
 * into segments of a few blocks; a segment begins from a fresh state and joins those before it in
 * order. What a pair sees, and in which order, depends on its position alone (rule 1). Layering:
 * kernels. */
#ifndef SHOAL_KERNELS_ATTEND_H
#define SHOAL_KERNELS_ATTEND_H

#include "runtime/kernels/kv_cache.h"

#define SHOAL_QUERY_TILE 64 /* (row, head) pairs of one attention task */

/* Positions that one attention task covers from a fresh state, a multiple of SHOAL_ATTEND_BLOCK.
 * Part of what the bits are (rule 1). */
#define SHOAL_ATTEND_SEGMENT 256
#define SHOAL_ATTEND_WAVE    16 /* segments of one row that may run at the same time */

/* Where a row stands. */
typedef struct shoal_place {
    int32_t slot;     /* of the cache */
    int32_t position; /* in its sequence */
} shoal_place;

/* Consecutive positions of one sequence in this step: rows [row0, row0 + n_row) of the step. */
typedef struct shoal_chunk {
    int32_t slot;      /* cache slot on this rank */
    int32_t position0; /* position of its first row; rows before it are in the cache */
    int32_t row0;
    int32_t n_row;
} shoal_chunk;

/* Scratch of the core, carved once. */
typedef struct shoal_attend_room {
    int32_t *chunk_unit0;             /* [n_token_max + 1] first unit of each chunk */
    shoal_attend_state *attend_state; /* [n_token_max, n_head] of the segments joined so far */
    /* Parts that wait to be joined, where segments run at the same time: [pair, segment] */
    float *partial;                    /* [n_partial, d_v] */
    shoal_attend_state *partial_state; /* [n_partial] */
    int32_t n_partial;
    /* Scratch of one task, per worker */
    float *query_tile; /* [n_thread, SHOAL_QUERY_TILE, d_k] */
    float *out_tile;   /* [n_thread, SHOAL_QUERY_TILE, d_v] */
    float *value_tile; /* [n_thread, SHOAL_ATTEND_BLOCK, d_v], latent */
    /* Of a device instead of all these: room for the parts of at least one row */
    float *part; /* device, [n_part] */
    size_t n_part;
} shoal_attend_room;

typedef struct shoal_attend_limits {
    int32_t n_token_max, n_head, d_k, d_v;
    int32_t n_context;
    int32_t n_thread;
    bool latent;
} shoal_attend_limits;

/* Measure or carve. */
void shoal_attend_room_carve(shoal_attend_room *room, shoal_arenas arenas,
                             const shoal_attend_limits *limits);

/* Most segments that one of the rows at place [n_row] sees, 1 at least. */
int32_t shoal_attend_most_segments(const shoal_place *place, int32_t n_row, int32_t window);

/* out [n_token, n_head, d_v] from query [n_token, n_head, d_k]; d_k, d_v, kv heads: the cache's. */
typedef struct shoal_attend {
    float *out;         /* device */
    const float *query; /* device */
    const shoal_kv_cache *cache;
    int32_t layer;
    const shoal_place *place; /* [n_token] host */
    const shoal_chunk *chunk; /* [n_chunk], in row order, covering all rows */
    int32_t n_chunk, n_token, n_head;
    int32_t window; /* positions that a row sees, 0: all */
    float scale;
    const float *sinks; /* [n_head] or NULL; device */
    shoal_attend_room *room;
} shoal_attend;

/* cos and sin of the rows' positions. */
typedef struct shoal_rotation {
    const float *cos, *sin; /* [n_row, n_rot / 2] device */
    int32_t n_rot;
    bool interleaved; /* pairs (2i, 2i + 1), else (i, i + n_rot / 2) */
} shoal_rotation;

/* Between GQA's projections and its core: heads normed and rotated in place, keys and values
 * stored. Of a head the first n_rot values are rotated. */
typedef struct shoal_place_heads {
    shoal_kv_cache *cache;
    int32_t layer, n_row, n_head;
    const shoal_place *place; /* [n_row] host */
    float *q;                 /* [n_row, n_head, d_k] device */
    float *kv;                /* [n_row, 2, kv heads, d_k] keys, then values; device */
    const float *q_norm;      /* [d_k] for each head, or NULL; device */
    const float *k_norm;
    float norm_eps;
    shoal_rotation rotation;
} shoal_place_heads;

/* The same for MLA: the latent normed, the shared key behind it rotated, both stored; the part of
 * each query head behind nope_dim goes, rotated, to the end of its absorbed head. */
typedef struct shoal_place_latent {
    shoal_kv_cache *cache;
    int32_t layer, n_row, n_head;
    const shoal_place *place; /* [n_row] host */
    float *kv;                /* [n_row, d_k] latent [d_v], then the key; device */
    const float *q;           /* [n_row, n_head, nope_dim + n_rot] device */
    float *q_absorbed;        /* [n_row, n_head, d_k] its last n_rot are written; device */
    int32_t nope_dim;
    const float *latent_norm; /* [d_v] device */
    float norm_eps;
    shoal_rotation rotation;
} shoal_place_latent;

#endif
