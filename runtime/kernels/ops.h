/* The operations of the line on whole tensors. On a CPU rank they spread the kernels (kernels.h)
 * over its pool and are done when they return; tiles are cut by output rows and tokens only, never
 * inside a sum, so the result does not depend on the thread count. On a rank with a device they
 * enqueue (device.h, which says what "device" and "host" mean at a pointer).
 * Layering: kernels know base only. */
#ifndef SHOAL_KERNELS_OPS_H
#define SHOAL_KERNELS_OPS_H

#include "runtime/base/pool.h"
#include "runtime/kernels/attend.h"
#include "runtime/kernels/kernels.h"
#include "runtime/kernels/route.h"
#include "runtime/kernels/wire.h"

typedef struct shoal_device shoal_device;

/* What a rank computes with. */
typedef struct shoal_compute {
    const shoal_kernels *kernels; /* the host's */
    shoal_pool *pool;
    shoal_device *device; /* NULL: the CPU of the pool */
} shoal_compute;

/* y [n_token, w->n_row] = x [n_token, w->n_col] * w^T. ld_* in elements, >= the row lengths. */
void shoal_op_matmul(const shoal_compute *c, float *y, int64_t ld_y, const shoal_matrix *w,
                     const float *x, int64_t ld_x, int32_t n_token);

/* Several independent products in one job (gate and up; the heads of MLA; the experts of a layer).
 * The bias is added to the finished sums. */
typedef struct shoal_matmul_item {
    float *y;
    int64_t ld_y;
    const shoal_matrix *w;
    const float *x;
    int64_t ld_x;
    int32_t n_token;
    const float *bias; /* [w->n_row] or NULL */
    /* [n_token, ld_x_int8 groups] the same rows as integers, or NULL. With a quantised w the
     * product is matmul_int8's of these, and x is not read. */
    const shoal_int8_group *x_int8;
    int64_t ld_x_int8;
} shoal_matmul_item;
void shoal_op_matmul_many(const shoal_compute *c, const shoal_matmul_item *item, int32_t n_item);

/* y [n_row, ld_y groups] = the rows of x [n_row, n_col] as int8 groups. ld_y in groups. */
void shoal_op_to_groups(const shoal_compute *c, shoal_int8_group *y, int64_t ld_y, const float *x,
                        int64_t ld_x, int32_t n_row, int32_t n_col);

/* y [n_row, n_col] = rms_norm of each row of x; y may be x. ld in elements. */
void shoal_op_rms_norm(const shoal_compute *c, float *y, int64_t ld_y, const float *x, int64_t ld_x,
                       const float *weight, int32_t n_row, int32_t n_col, float eps);

/* What stands between an MLP's two halves. Zeroed: silu(gate) * up. */
typedef enum shoal_activation_kind {
    SHOAL_ACTIVATION_SILU,
    SHOAL_ACTIVATION_SWIGLU_CLAMPED, /* gpt-oss, see kernels.h */
} shoal_activation_kind;

typedef struct shoal_activation {
    shoal_activation_kind kind;
    float alpha, limit; /* SWIGLU_CLAMPED */
} shoal_activation;

/* y[i] = activation(gate[i], up[i]) over n elements; y may be gate or up. */
void shoal_op_activate(const shoal_compute *c, const shoal_activation *activation, float *y,
                       const float *gate, const float *up, int64_t n);

/* y [n_row, ld_y groups] = the rows activation(gate, up) as int8 groups: what activate and
 * to_groups give one after the other. gate, up: [n_row, ld], n_col values of each row. */
void shoal_op_activate_groups(const shoal_compute *c, const shoal_activation *activation,
                              shoal_int8_group *y, int64_t ld_y, const float *gate, const float *up,
                              int64_t ld, int32_t n_row, int32_t n_col);

/* y[i] *= a. */
void shoal_op_scale(const shoal_compute *c, float *y, float a, int64_t n);

/* x += multiplier * (acc + shared); acc may be overwritten. shared may be NULL. [n] each. */
void shoal_op_add_residual(const shoal_compute *c, float *x, float *acc, const float *shared,
                           float multiplier, int64_t n);

/* The rows y [n_row, n_col] times sigmoid(gate [n_row]); gate is overwritten. */
void shoal_op_gate_rows(const shoal_compute *c, float *y, float *gate, int32_t n_row,
                        int32_t n_col);

/* Attention (attend.h). */
void shoal_op_place_heads(const shoal_compute *c, const shoal_place_heads *step);
void shoal_op_place_latent(const shoal_compute *c, const shoal_place_latent *step);
void shoal_op_attend(const shoal_compute *c, const shoal_attend *attend);

/* The router's choice for each row (route.h). On a device expert and weight are there after sync.
 */
typedef struct shoal_route_step {
    int32_t *expert; /* [n_token, top_k] host */
    float *weight;   /* [n_token, top_k] host */
    const shoal_router_config *config;
    float *logits;            /* [n_token, n_expert] device; overwritten */
    const float *select_bias; /* [n_expert] device, or NULL */
    int32_t n_token;
} shoal_route_step;
void shoal_op_route(const shoal_compute *c, const shoal_route_step *step);

/* A token and what speaks for it. In order: the larger value first, ties by the lower token. */
typedef struct shoal_logit {
    float value;
    int32_t token;
} shoal_logit;

#define SHOAL_LARGEST_MAX 64 /* of a row */

/* The k largest of each row of logits, in order; NaN counts as -infinity, but values are as they
 * are. On a device they are there after sync. */
typedef struct shoal_largest {
    shoal_logit *out;    /* [n_row, k] host */
    const float *logits; /* [n_row, n_vocab] device */
    int32_t n_row, n_vocab;
    int32_t k; /* 1 .. SHOAL_LARGEST_MAX, <= n_vocab */
} shoal_largest;
void shoal_op_largest(const shoal_compute *c, const shoal_largest *largest);

/* Rows brought together: row to[i] of the result = row row[i] of `from`. The result as f32, as
 * integers (those of `from`, or made from its f32 where it has none), or both. */
typedef struct shoal_gather {
    float *f32;             /* device, or NULL */
    shoal_int8_group *int8; /* device, or NULL */
    shoal_rows from;        /* device */
    const int32_t *to;      /* [n_row] host; NULL: i */
    const int32_t *row;     /* [n_row] host */
    int32_t n_row, n_col;
} shoal_gather;
void shoal_op_gather(const shoal_compute *c, const shoal_gather *gather);

/* Row i of `out` = row index[i] of x as it travels (wire.h). */
typedef struct shoal_pack {
    unsigned char *out; /* [n_row, row bytes], aligned to 4; host or device */
    shoal_wire_encoding encoding;
    shoal_rows x;         /* device; int8, if there, serves SHOAL_WIRE_INT8 */
    const int32_t *index; /* [n_row] host */
    int32_t n_row, n_col;
    /* [rows of x] or NULL: where a row was packed before, NULL: nowhere yet; a CPU rank copies what
     * it finds and notes what it makes. Rows of one call are different ones. */
    unsigned char **made;
} shoal_pack;
void shoal_op_pack_rows(const shoal_compute *c, const shoal_pack *pack);

/* Row i of `out` = 0; fma(slot_weight[s], row slot_done[s] of done, .) over its slots s in
 * [row_slot[i], row_slot[i + 1]), as it travels. */
typedef struct shoal_pack_sums {
    unsigned char *out; /* [n_row, row bytes], aligned to 4; host or device */
    shoal_wire_encoding encoding;
    const float *done;        /* [.., n_col] device */
    const int32_t *row_slot;  /* [n_row + 1] host */
    const int32_t *slot_done; /* host */
    const float *slot_weight; /* host */
    int32_t n_row, n_col;
    float *room; /* [n_thread, n_col] of a CPU rank */
} shoal_pack_sums;
void shoal_op_pack_sums(const shoal_compute *c, const shoal_pack_sums *pack);

/* Rows that have come, decoded: as integers (SHOAL_WIRE_INT8 only) or as f32. */
typedef struct shoal_unpack {
    float *f32;                /* [n_row, n_col] device, or NULL with int8 */
    shoal_int8_group *int8;    /* [n_row, groups] device, or NULL */
    const unsigned char *from; /* [n_row, row bytes], aligned to 4; host or device */
    shoal_wire_encoding encoding;
    int32_t n_row, n_col;
} shoal_unpack;
void shoal_op_unpack_rows(const shoal_compute *c, const shoal_unpack *unpack);

/* acc [n_row, n_col] = 0; fma(weight[i, j], row home[i, j], .) in the order of j; no row where home
 * is -1. Row r is row r of `from`, or row r - own_first of `own` where own_first <= r < own_first +
 * n_own. */
typedef struct shoal_sum {
    float *acc;                /* device */
    const unsigned char *from; /* rows as they travel, f32 or bf16; host */
    const unsigned char *own;  /* the same, device; NULL with n_own 0 */
    int32_t own_first, n_own;
    shoal_wire_encoding encoding;
    const int32_t *home; /* [n_row, k] host */
    const float *weight; /* [n_row, k] host; NULL: 1 */
    int32_t k, n_row, n_col;
} shoal_sum;
void shoal_op_sum_rows(const shoal_compute *c, const shoal_sum *sum);

/* Between host and device memory: n_row rows of n_bytes that are a pitch in bytes apart; and one
 * piece. `from` of upload is left alone until a sync, `to` of fetch is there after one. On a CPU
 * rank copies, or nothing where both are the same. */
void shoal_op_upload(const shoal_compute *c, void *to, size_t to_pitch, const void *from,
                     size_t from_pitch, size_t n_bytes, int32_t n_row);
void shoal_op_fetch(const shoal_compute *c, void *to, const void *from, size_t n_bytes);

/* Operations that are enqueued alike again and again, as those of a layer are while tokens are
 * decoded:
 *
 *     shoal_op_run run = {.key = ...};
 *     while (shoal_op_next(c, &run)) { operations, and nothing else }
 *
 * The same key stands for the same operations with the same arguments, always; what host memory
 * holds may be another each time. A device may record them and enqueue the record from then on
 * instead of running the body; a CPU rank runs it once. A body neither waits nor enqueues gathers.
 */
typedef struct shoal_op_key {
    int32_t what; /* which body */
    int32_t layer;
    int32_t row0; /* of the step, where its part begins */
    int32_t n_row;
    int32_t n_seen; /* whatever else sizes the work */
} shoal_op_key;

typedef struct shoal_op_run {
    shoal_op_key key;
    int32_t turn; /* 0 at first */
} shoal_op_run;

bool shoal_op_next(const shoal_compute *c, shoal_op_run *run);

#define SHOAL_N_MARK 64 /* marks of a device */

/* mark: note as mark i (taken modulo SHOAL_N_MARK) what is enqueued so far; true if it has all
 * happened already, as always on a CPU rank. wait: until the latest mark i is reached. sync: until
 * all that is enqueued has happened. While they wait the pool's hook is called. Errors: what has
 * befallen the device. */
bool shoal_op_mark(const shoal_compute *c, int32_t i);
shoal_status shoal_op_wait(const shoal_compute *c, int32_t i);
shoal_status shoal_op_sync(const shoal_compute *c);

#endif
