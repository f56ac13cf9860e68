/* The CUDA side of the kernels: for each a host function that enqueues it on a stream. What they
 * are given is what the operations of ops.h are given; pointers are device memory unless that says
 * host, which is pinned memory that the device reads and writes in place. The layouts are the CPU's
 * (matrix.h, kernels.h, kv_cache.h): weights need no repacking, since 16 rows by 32 columns of a
 * band are what a warp's tensor core takes, and what 32 lanes read at once when a weight is used
 * for few tokens.
 *
 * Every kernel is equal to the CPU's within the tolerance that tests/kernels/cuda keeps in one
 * table; sums are cut over lanes and warps in a fixed order, so that a launch always gives the same
 * bits. Functions enqueue nothing where there is nothing to do, and return what cudaGetLastError
 * says of the launch. Layering: kernels know base only; CUDA stops at this folder. */
#ifndef SHOAL_KERNELS_CUDA_KERNELS_CUH
#define SHOAL_KERNELS_CUDA_KERNELS_CUH

#include "runtime/kernels/cuda/launch.cuh"

extern "C" {
#include "runtime/kernels/device.h"
}

/* One product of a launch, as the device sees it. */
struct shoal_cuda_item {
    const void *w;      /* packed data of a shoal_matrix */
    const float *scale; /* FP8_BLOCK */
    shoal_format format;
    int32_t n_row, n_col;
    int32_t n_token;
    const float *x; /* [n_token, ld_x] */
    int64_t ld_x;
    const shoal_int8_group *x_int8; /* [n_token, ld_x_int8 groups]: instead of x; or NULL */
    int64_t ld_x_int8;
    float *y; /* [n_token, ld_y] */
    int64_t ld_y;
    const float *bias; /* [n_row] or NULL */
    int32_t block0;    /* blocks of the launch's items before it */
};

/* Room for the items of a launch on their way to the device, [n_item] each. */
struct shoal_cuda_items {
    shoal_cuda_item *host; /* pinned */
    shoal_cuda_item *device;
};

/* All products of a layer in as few launches as there are kinds among them: the form for 1, 2, 4
 * or 8 tokens, or tensor cores for more; a launch per format. precise: activations are not rounded
 * to bf16 for tensor cores. item: host, read before it returns; `room` is busy until the stream has
 * passed. */
cudaError_t shoal_cuda_matmul_many(const shoal_cuda_items *room, const shoal_matmul_item *item,
                                   int32_t n_item, bool precise, cudaStream_t stream);

/* Rows of activations: row r at at + r * ld. */
struct shoal_cuda_rows {
    const float *at;
    int64_t ld;
    int32_t n_row, n_col;
};

/* y [n_row, ld_y] = rms_norm of each row of x (norm.cu); y may be x. weight: [n_col]. */
cudaError_t shoal_cuda_rms_norm(float *y, int64_t ld_y, shoal_cuda_rows x, const float *weight,
                                float eps, cudaStream_t stream);

/* activation.cu: the CPU's bits. */
cudaError_t shoal_cuda_activate(float *y, const float *gate, const float *up, int64_t n,
                                const shoal_activation *activation, cudaStream_t stream);
/* y [n_row, ld_y groups] = the rows of x as int8 groups; with an activation (else NULL) those of
 * activation(x, up), up of x's ld. */
cudaError_t shoal_cuda_to_groups(shoal_int8_group *y, int64_t ld_y, shoal_cuda_rows x,
                                 const float *up, const shoal_activation *activation,
                                 cudaStream_t stream);

/* rows.cu: ops.h's operations of the same names; the CPU's bits. */
cudaError_t shoal_cuda_scale(float *y, float a, int64_t n, cudaStream_t stream);
cudaError_t shoal_cuda_add_residual(float *x, const float *acc, const float *shared,
                                    float multiplier, int64_t n, cudaStream_t stream);
cudaError_t shoal_cuda_gate_rows(float *y, const float *gate, int32_t n_row, int32_t n_col,
                                 cudaStream_t stream);
cudaError_t shoal_cuda_gather(const shoal_gather *gather, cudaStream_t stream);
cudaError_t shoal_cuda_largest(const shoal_largest *largest, cudaStream_t stream);

/* wire.cu: rows as they travel, in the host's memory; the CPU's bits. */
cudaError_t shoal_cuda_pack_rows(const shoal_pack *pack, cudaStream_t stream);
cudaError_t shoal_cuda_pack_sums(const shoal_pack_sums *pack, cudaStream_t stream);
cudaError_t shoal_cuda_unpack_rows(const shoal_unpack *unpack, cudaStream_t stream);
cudaError_t shoal_cuda_sum_rows(const shoal_sum *sum, cudaStream_t stream);

/* heads.cu: norm, rotation and storing in one launch. place: of the step's, readable by the device.
 */
cudaError_t shoal_cuda_place_heads(const shoal_place_heads *step, const shoal_place *place,
                                   cudaStream_t stream);
cudaError_t shoal_cuda_place_latent(const shoal_place_latent *step, const shoal_place *place,
                                    cudaStream_t stream);

/* Attention over the cache (attention.cu): as many launches as the rows need room of a->room->part,
 * each with a second one that merges segments. a->place is read by the host, `place`, which is the
 * same, by the device. Errors: cudaErrorInvalidValue if the room is too small for a row, or a value
 * has more than 512 elements. */
cudaError_t shoal_cuda_attend(const shoal_attend *a, const shoal_place *place, cudaStream_t stream);

/* The router's choice (route.cu): route.h's rules, the CPU's choice where scores are not closer
 * than the kernels' tolerance. */
cudaError_t shoal_cuda_route(const shoal_route_step *step, cudaStream_t stream);

/* Read n_bytes (a multiple of 16) and make nothing of it (peak.cu): for measuring. sink: 4 bytes
 * that are hardly ever written. */
cudaError_t shoal_cuda_read(uint32_t *sink, const void *from, size_t n_bytes, int32_t n_block,
                            cudaStream_t stream);

#endif
