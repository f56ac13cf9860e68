#include "runtime/kernels/ops_rows.h"

#include <math.h>
#include <string.h>

typedef struct rows_job {
    shoal__row_fn *fn;
    const void *job;
    const shoal_kernels *kernels;
    int32_t n_row, rows;
} rows_job;

static void rows_tile(void *arg, int32_t tile, int32_t worker)
{
    const rows_job *j = arg;
    int32_t row0 = tile * j->rows, row1 = j->n_row - row0 < j->rows ? j->n_row : row0 + j->rows;
    for (int32_t row = row0; row < row1; row++)
        j->fn(j->job, j->kernels, row, worker);
}

void shoal__for_rows(const shoal_compute *c, shoal__row_fn *fn, const void *job, int32_t n_row,
                     int32_t rows)
{
    rows_job j = {fn, job, c->kernels, n_row, rows};
    int32_t n_tile = (n_row + rows - 1) / rows;
    if (n_tile > 1 && c->pool != NULL)
        shoal_pool_run(c->pool, rows_tile, &j, n_tile);
    else
        for (int32_t tile = 0; tile < n_tile; tile++)
            rows_tile(&j, tile, 0);
}

enum { ELEMS = 1 << 14 }; /* of a tile, of operations that go through values one by one */

/* y += multiplier * (x + more), or y *= a: a tile is a row of ELEMS. */
typedef struct elems_job {
    float *y, *x;
    const float *more;
    float a;
    int64_t n;
} elems_job;

static int64_t elems(const elems_job *j, int32_t row, int64_t *at)
{
    *at = (int64_t)row * ELEMS;
    return j->n - *at < ELEMS ? j->n - *at : ELEMS;
}

static int32_t n_elems_row(int64_t n)
{
    return (int32_t)((n + ELEMS - 1) / ELEMS);
}

static void residual_row(const void *job, const shoal_kernels *k, int32_t row, int32_t worker)
{
    (void)worker;
    const elems_job *j = job;
    int64_t at, n = elems(j, row, &at);
    if (j->more != NULL)
        k->add(j->x + at, j->more + at, n);
    if (j->a != 1.0F)
        k->axpy(j->y + at, j->a, j->x + at, n);
    else
        k->add(j->y + at, j->x + at, n);
}

void shoal_op_add_residual(const shoal_compute *c, float *x, float *acc, const float *shared,
                           float multiplier, int64_t n)
{
    if (c->device != NULL) {
        c->device->ops->add_residual(c->device, x, acc, shared, multiplier, n);
        return;
    }
    const elems_job job = {.y = x, .x = acc, .more = shared, .a = multiplier, .n = n};
    shoal__for_rows(c, residual_row, &job, n_elems_row(n), 1);
}

static void scale_row(const void *job, const shoal_kernels *k, int32_t row, int32_t worker)
{
    (void)worker;
    const elems_job *j = job;
    int64_t at, n = elems(j, row, &at);
    k->scale(j->y + at, j->a, n);
}

void shoal_op_scale(const shoal_compute *c, float *y, float a, int64_t n)
{
    if (c->device != NULL) {
        c->device->ops->scale(c->device, y, a, n);
        return;
    }
    const elems_job job = {.y = y, .a = a, .n = n};
    shoal__for_rows(c, scale_row, &job, n_elems_row(n), 1);
}

typedef struct gate_job {
    float *y, *gate;
    int32_t n_col;
} gate_job;

static void gate_row(const void *job, const shoal_kernels *k, int32_t row, int32_t worker)
{
    (void)worker;
    const gate_job *j = job;
    k->sigmoid(&j->gate[row], 1);
    k->scale(j->y + (int64_t)row * j->n_col, j->gate[row], j->n_col);
}

void shoal_op_gate_rows(const shoal_compute *c, float *y, float *gate, int32_t n_row, int32_t n_col)
{
    if (c->device != NULL) {
        c->device->ops->gate_rows(c->device, y, gate, n_row, n_col);
        return;
    }
    const gate_job job = {y, gate, n_col};
    shoal__for_rows(c, gate_row, &job, n_row, 1);
}

static void gather_row(const void *job, const shoal_kernels *k, int32_t i, int32_t worker)
{
    (void)worker;
    const shoal_gather *g = job;
    const int64_t n_col = g->n_col, n_group = shoal_int8_groups(g->n_col);
    int64_t to = g->to != NULL ? g->to[i] : i, from = g->row[i];
    if (g->f32 != NULL)
        memcpy(g->f32 + to * n_col, g->from.f32 + from * n_col, (size_t)n_col * sizeof(float));
    if (g->int8 != NULL && g->from.int8 != NULL)
        memcpy(g->int8 + to * n_group, g->from.int8 + from * n_group,
               (size_t)n_group * sizeof(shoal_int8_group));
    else if (g->int8 != NULL)
        k->to_groups(g->int8 + to * n_group, g->from.f32 + from * n_col, g->n_col);
}

void shoal_op_gather(const shoal_compute *c, const shoal_gather *gather)
{
    enum { ROWS = 16 };
    if (c->device != NULL)
        c->device->ops->gather(c->device, gather);
    else
        shoal__for_rows(c, gather_row, gather, gather->n_row, ROWS);
}

static void route_row(const void *job, const shoal_kernels *k, int32_t row, int32_t worker)
{
    (void)worker;
    const shoal_route_step *s = job;
    int64_t at = (int64_t)row * s->config->top_k;
    shoal_route(s->expert + at, s->weight + at, s->config, k,
                s->logits + (int64_t)row * s->config->n_expert, s->select_bias, 1);
}

void shoal_op_route(const shoal_compute *c, const shoal_route_step *step)
{
    enum { ROWS = 8 };
    if (c->device != NULL)
        c->device->ops->route(c->device, step);
    else
        shoal__for_rows(c, route_row, step, step->n_token, ROWS);
}

static float finite_or_less(float x)
{
    return x != x ? -INFINITY : x; /* NaN */
}

/* Insertion into a row that stays sorted: few are kept, and most of a row is smaller than they. */
static void largest_row(const void *job, const shoal_kernels *k, int32_t row, int32_t worker)
{
    (void)k, (void)worker;
    const shoal_largest *l = job;
    const float *x = l->logits + (int64_t)row * l->n_vocab;
    shoal_logit *out = l->out + (int64_t)row * l->k;
    int32_t n = 0;
    for (int32_t i = 0; i < l->n_vocab; i++) {
        const float value = finite_or_less(x[i]);
        if (n == l->k && value <= finite_or_less(out[n - 1].value))
            continue;
        int32_t at = n < l->k ? n++ : n - 1;
        for (; at > 0 && value > finite_or_less(out[at - 1].value); at--)
            out[at] = out[at - 1];
        out[at] = (shoal_logit){.value = x[i], .token = i};
    }
}

void shoal_op_largest(const shoal_compute *c, const shoal_largest *largest)
{
    if (c->device != NULL)
        c->device->ops->largest(c->device, largest);
    else
        shoal__for_rows(c, largest_row, largest, largest->n_row, 1);
}

void shoal_op_upload(const shoal_compute *c, void *to, size_t to_pitch, const void *from,
                     size_t from_pitch, size_t n_bytes, int32_t n_row)
{
    if (c->device != NULL) {
        c->device->ops->upload(c->device, to, to_pitch, from, from_pitch, n_bytes, n_row);
        return;
    }
    for (size_t row = 0; to != from && row < (size_t)n_row; row++)
        memcpy((char *)to + row * to_pitch, (const char *)from + row * from_pitch, n_bytes);
}

void shoal_op_fetch(const shoal_compute *c, void *to, const void *from, size_t n_bytes)
{
    if (c->device != NULL)
        c->device->ops->fetch(c->device, to, from, n_bytes);
    else if (to != from)
        memcpy(to, from, n_bytes);
}

bool shoal_op_next(const shoal_compute *c, shoal_op_run *run)
{
    return c->device != NULL ? c->device->ops->run_next(c->device, run) : run->turn++ == 0;
}

bool shoal_op_mark(const shoal_compute *c, int32_t i)
{
    return c->device == NULL || c->device->ops->mark(c->device, i);
}

shoal_status shoal_op_wait(const shoal_compute *c, int32_t i)
{
    return c->device == NULL ? SHOAL_OK : c->device->ops->wait(c->device, i);
}

shoal_status shoal_op_sync(const shoal_compute *c)
{
    return c->device == NULL ? SHOAL_OK : c->device->ops->sync(c->device);
}
