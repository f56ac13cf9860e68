/* The CUDA side of the kernels: for each a host function that enqueues it on a stream. All pointers
 * are device memory unless a comment says host. The layouts are the CPU's (matrix.h, kernels.h):
 * weights need no repacking, since 16 rows by 32 columns of a band are what a warp's tensor core
 * takes, and what 32 lanes read at once when a weight is used for few tokens.
 *
 * Every kernel is equal to the CPU's of the same file name within the tolerance that
 * tests/kernels/cuda keeps in one table; sums are cut over lanes and warps in a fixed order, so
 * that a launch always gives the same bits. Functions return what cudaGetLastError says of the
 * launch. Layering: kernels know base only; CUDA stops at this folder. */
#ifndef SHOAL_KERNELS_CUDA_KERNELS_CUH
#define SHOAL_KERNELS_CUDA_KERNELS_CUH

#include "runtime/kernels/cuda/launch.cuh"

extern "C" {
#include "runtime/kernels/kernels.h"
}

/* One product y [n_token, w->n_row] = x * w^T + bias of a grouped launch. */
struct shoal_cuda_item {
    const void *w;      /* packed data of a shoal_matrix */
    const float *scale; /* FP8_BLOCK */
    shoal_format format;
    int32_t n_row, n_col;
    int32_t n_token;
    const float *x; /* [n_token, ld_x], or NULL with x_int8 */
    int64_t ld_x;
    const shoal_int8_group *x_int8; /* [n_token, ld_x_int8 groups] with a quantised w, or NULL */
    int64_t ld_x_int8;
    float *y; /* [n_token, ld_y] */
    int64_t ld_y;
    const float *bias; /* [n_row] or NULL */
    int32_t block0;    /* set by the launch: blocks of the items before it */
};

/* Room for the items of a launch on their way to the device. */
struct shoal_cuda_items {
    shoal_cuda_item *host; /* [n_max] pinned */
    shoal_cuda_item *device;
    int32_t n_max;
};

/* All products of a layer in as few launches as there are kinds among them: the form for 1, 2, 4
 * or 8 tokens, or tensor cores for more; a launch per format. item: host, [n_item <= room->n_max];
 * items without tokens are left out. `room` is busy until the stream has passed. */
cudaError_t shoal_cuda_matmul_many(const shoal_cuda_items *room, const shoal_cuda_item *item,
                                   int32_t n_item, cudaStream_t stream);

/* Rows of activations: row r at at + r * ld. */
struct shoal_cuda_rows {
    float *at;
    int64_t ld;
    int32_t n_row, n_col;
};

/* y = rms_norm of each row of x (norm.cu). y.at may be x.at. weight: [n_col]. */
cudaError_t shoal_cuda_rms_norm(shoal_cuda_rows y, shoal_cuda_rows x, const float *weight,
                                float eps, cudaStream_t stream);

/* y [n_row, ld_y groups] = the rows of x as int8 groups (wire.cu): the CPU's bits. */
cudaError_t shoal_cuda_to_groups(shoal_int8_group *y, int64_t ld_y, shoal_cuda_rows x,
                                 cudaStream_t stream);

/* Rows as they travel (comm/wire.h, wire.cu): to [n_row, row_bytes] bytes at `to`, which may be
 * pinned host memory, and back. bf16 rows are n_col values; int8 rows integers padded to 4 bytes,
 * then scales. The CPU's bits. */
cudaError_t shoal_cuda_rows_to_bf16(uint16_t *to, shoal_cuda_rows x, cudaStream_t stream);
cudaError_t shoal_cuda_rows_from_bf16(shoal_cuda_rows y, const uint16_t *from, cudaStream_t stream);
cudaError_t shoal_cuda_pack_groups(void *to, const shoal_int8_group *x, int64_t ld_x, int32_t n_row,
                                   int32_t n_col, cudaStream_t stream);
cudaError_t shoal_cuda_unpack_groups(shoal_int8_group *y, int64_t ld_y, const void *from,
                                     int32_t n_row, int32_t n_col, cudaStream_t stream);

/* Results that have come home (wire.cu): y[r] = sum over j of weight[r, j] * row index[r, j] of
 * `from`, in the order of j with fma from 0: the CPU's bits. index: [n_row, k], -1: none. */
struct shoal_cuda_results {
    const void *from; /* [rows, n_col] f32 or bf16, device or pinned host */
    bool bf16;
    const int32_t *index;
    const float *weight; /* [n_row, k] */
    int32_t k;
};
cudaError_t shoal_cuda_combine(shoal_cuda_rows y, const shoal_cuda_results *results,
                               cudaStream_t stream);

/* y[i] = silu(gate[i]) * up[i], or gpt-oss's clamped form where limit > 0 (activation.cu). y may be
 * gate or up. */
struct shoal_cuda_activation {
    float alpha, limit; /* limit 0: silu */
};
cudaError_t shoal_cuda_activate(float *y, const float *gate, const float *up, int64_t n,
                                shoal_cuda_activation activation, cudaStream_t stream);
/* y += a * x. */
cudaError_t shoal_cuda_axpy(float *y, float a, const float *x, int64_t n, cudaStream_t stream);

/* Rotate n_head heads of d values in each row of x, of which the first n_rot values behind `first`
 * (rope.cu). cos, sin: [n_row, n_rot / 2]. */
struct shoal_cuda_rotation {
    const float *cos, *sin;
    int32_t n_head, d, first, n_rot;
    bool interleaved; /* pairs (2i, 2i + 1), else (i, i + n_rot / 2) */
};
cudaError_t shoal_cuda_rope(shoal_cuda_rows x, const shoal_cuda_rotation *rope,
                            cudaStream_t stream);

/* The cache of one layer as model/kv_cache.h lays it out, on the device. */
struct shoal_cuda_cache {
    void *data; /* of the layer: [n_slot, n_head, n_block] blocks */
    shoal_kv_dtype dtype;
    int32_t n_head, d_k, d_v;
    int64_t n_block; /* of a head */
    size_t block_bytes;
    size_t value_offset; /* in a block; latent: not used */
    bool latent;         /* MLA: values are the first d_v elements of the keys */
};

/* Where the rows of a step stand. */
struct shoal_cuda_place {
    int32_t slot, position;
};

/* Store the key and value rows of all kv heads (attention.cu): key [n_row, n_head, d_k], value
 * [n_row, n_head, d_v]; latent: value is not read. */
cudaError_t shoal_cuda_store(const shoal_cuda_cache *cache, const float *key, const float *value,
                             const shoal_cuda_place *place, int32_t n_row, cudaStream_t stream);

/* Attention of n_row rows over the cache: out [n_row, n_query_head, d_v] from query [n_row,
 * n_query_head, d_k]. A row sees positions 0 .. its own, or the last `window` of them. Segments of
 * SHOAL_CUDA_SEGMENT positions are worked on apart and merged in order. */
#define SHOAL_CUDA_SEGMENT 256
struct shoal_cuda_attention {
    const float *query;
    const shoal_cuda_place *place;
    int32_t n_row, n_query_head;
    int32_t n_position; /* most positions that a row sees: sizes the grid */
    int32_t window;     /* 0: none */
    float scale;
    const float *sink; /* [n_query_head] or NULL */
    float *part;       /* scratch, shoal_cuda_attend_part floats */
};
size_t shoal_cuda_attend_part(int32_t n_row, int32_t n_query_head, int32_t n_position, int32_t d_v);
cudaError_t shoal_cuda_attend(float *out, const shoal_cuda_cache *cache,
                              const shoal_cuda_attention *attend, cudaStream_t stream);

/* The router's choice (route.cu): runtime/kernels/route.h's rules, the CPU's choice where scores
 * are not closer than the kernels' tolerance. */
struct shoal_cuda_router {
    int32_t n_expert, top_k, n_group, topk_group;
    int32_t score;   /* 0 sigmoid, 1 softmax, 2 softmax of the chosen */
    bool group_top2; /* group score: sum of the two largest, else the largest */
    bool normalize;
    float masked_score, scale;
};
cudaError_t shoal_cuda_route(int32_t *expert, float *weight, const shoal_cuda_router *router,
                             const float *logits, const float *select_bias, int32_t n_row,
                             cudaStream_t stream);

#endif
