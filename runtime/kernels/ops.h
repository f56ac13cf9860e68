/* Kernels spread over a rank's pool: the same arguments as in kernels.h for whole tensors. Tiles
 * are cut by output rows and tokens only, never inside a sum, so the result does not depend on the
 * thread count. Layering: kernels know base only. */
#ifndef SHOAL_KERNELS_OPS_H
#define SHOAL_KERNELS_OPS_H

#include "runtime/base/pool.h"
#include "runtime/kernels/kernels.h"

typedef struct shoal_compute {
    const shoal_kernels *kernels;
    shoal_pool *pool;
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

#endif
