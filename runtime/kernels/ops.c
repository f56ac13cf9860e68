#include "runtime/kernels/device.h"

enum { TILE_ELEMS = 1 << 14 };

typedef struct norm_job {
    const shoal_kernels *kernels;
    float *y;
    int64_t ld_y;
    const float *x;
    int64_t ld_x;
    const float *weight;
    int32_t n_row;
    int32_t n_col;
    int32_t rows; /* per tile */
    float eps;
} norm_job;

static void norm_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    const norm_job *job = arg;
    int32_t row0 = tile * job->rows;
    int32_t row1 = job->n_row - row0 < job->rows ? job->n_row : row0 + job->rows;
    for (int32_t r = row0; r < row1; r++)
        job->kernels->rms_norm(job->y + r * job->ld_y, job->x + r * job->ld_x, job->weight,
                               job->n_col, job->eps);
}

void shoal_op_rms_norm(const shoal_compute *c, float *y, int64_t ld_y, const float *x, int64_t ld_x,
                       const float *weight, int32_t n_row, int32_t n_col, float eps)
{
    if (c->device != NULL) {
        c->device->ops->rms_norm(c->device, y, ld_y, x, ld_x, weight, n_row, n_col, eps);
        return;
    }
    norm_job job = {.kernels = c->kernels,
                    .y = y,
                    .ld_y = ld_y,
                    .x = x,
                    .ld_x = ld_x,
                    .weight = weight,
                    .n_row = n_row,
                    .n_col = n_col,
                    .rows = n_col < TILE_ELEMS ? TILE_ELEMS / (n_col + 1) : 1,
                    .eps = eps};
    if (n_row > 0)
        shoal_pool_run(c->pool, norm_tile, &job, (n_row - 1) / job.rows + 1);
}

typedef struct activate_job {
    const shoal_kernels *kernels;
    const shoal_activation *activation;
    float *y;
    const float *gate;
    const float *up;
    int64_t n;
} activate_job;

static void activate(const shoal_kernels *k, const shoal_activation *a, float *y, const float *gate,
                     const float *up, int64_t n)
{
    if (a->kind == SHOAL_ACTIVATION_SWIGLU_CLAMPED)
        k->swiglu_clamped(y, gate, up, n, a->alpha, a->limit);
    else
        k->silu_mul(y, gate, up, n);
}

static void activate_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    const activate_job *job = arg;
    int64_t i0 = (int64_t)tile * TILE_ELEMS;
    int64_t n = job->n - i0 < TILE_ELEMS ? job->n - i0 : TILE_ELEMS;
    activate(job->kernels, job->activation, job->y + i0, job->gate + i0, job->up + i0, n);
}

void shoal_op_activate(const shoal_compute *c, const shoal_activation *activation, float *y,
                       const float *gate, const float *up, int64_t n)
{
    if (c->device != NULL) {
        c->device->ops->activate(c->device, activation, y, gate, up, n);
        return;
    }
    activate_job job = {
        .kernels = c->kernels, .activation = activation, .y = y, .gate = gate, .up = up, .n = n};
    if (n > 0)
        shoal_pool_run(c->pool, activate_tile, &job, (int32_t)((n - 1) / TILE_ELEMS + 1));
}

typedef struct groups_job {
    const shoal_kernels *kernels;
    const shoal_activation *activation; /* NULL: of gate as it is */
    shoal_int8_group *y;
    int64_t ld_y;
    const float *gate;
    const float *up;
    int64_t ld;
    int32_t n_row;
    int32_t n_col;
    int32_t rows; /* per tile */
} groups_job;

/* The result of an activation only exists piece by piece, in the L1. */
static void groups_row(const groups_job *job, int32_t row)
{
    enum { PIECE = 16 * SHOAL_GROUP };
    shoal_int8_group *y = job->y + row * job->ld_y;
    const float *gate = job->gate + row * job->ld;
    if (job->activation == NULL) {
        job->kernels->to_groups(y, gate, job->n_col);
        return;
    }
    const float *up = job->up + row * job->ld;
    for (int32_t i = 0; i < job->n_col; i += PIECE) {
        float piece[PIECE];
        int32_t n = job->n_col - i < PIECE ? job->n_col - i : PIECE;
        activate(job->kernels, job->activation, piece, gate + i, up + i, n);
        job->kernels->to_groups(y + i / SHOAL_GROUP, piece, n);
    }
}

static void groups_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    const groups_job *job = arg;
    int32_t row0 = tile * job->rows;
    int32_t row1 = job->n_row - row0 < job->rows ? job->n_row : row0 + job->rows;
    for (int32_t r = row0; r < row1; r++)
        groups_row(job, r);
}

/* elems: about so many values make a tile. A row is never split: it takes less than it costs to
 * have another thread help. */
static void run_groups(const shoal_compute *c, groups_job *job, int32_t elems)
{
    job->kernels = c->kernels;
    job->rows = job->n_col < elems ? elems / (job->n_col + 1) : 1;
    if (job->n_row > 0)
        shoal_pool_run(c->pool, groups_tile, job, (job->n_row - 1) / job->rows + 1);
}

void shoal_op_to_groups(const shoal_compute *c, shoal_int8_group *y, int64_t ld_y, const float *x,
                        int64_t ld_x, int32_t n_row, int32_t n_col)
{
    if (c->device != NULL) {
        c->device->ops->to_groups(c->device, y, ld_y, x, ld_x, n_row, n_col);
        return;
    }
    groups_job job = {.y = y, .ld_y = ld_y, .gate = x, .ld = ld_x, .n_row = n_row, .n_col = n_col};
    run_groups(c, &job, TILE_ELEMS / 4);
}

void shoal_op_activate_groups(const shoal_compute *c, const shoal_activation *activation,
                              shoal_int8_group *y, int64_t ld_y, const float *gate, const float *up,
                              int64_t ld, int32_t n_row, int32_t n_col)
{
    if (c->device != NULL) {
        c->device->ops->activate_groups(c->device, activation, y, ld_y, gate, up, ld, n_row, n_col);
        return;
    }
    groups_job job = {.activation = activation,
                      .y = y,
                      .ld_y = ld_y,
                      .gate = gate,
                      .up = up,
                      .ld = ld,
                      .n_row = n_row,
                      .n_col = n_col};
    run_groups(c, &job, TILE_ELEMS / 8);
}
