/* Between the projections of attention and its core, on the CPU: heads normed, rotated, stored. */
#include "runtime/kernels/device.h"

#include <string.h>

enum {
    TILE_VALUES = 1 << 13, /* GQA: normed, rotated and stored by one task */
    TILE_HEADS = 128,      /* MLA: rotated by one task */
};

/* The first n_rot values of x, a head of a row. */
static void rotate(const shoal_kernels *k, const shoal_rotation *r, float *x, int32_t row)
{
    size_t at = (size_t)row * ((size_t)r->n_rot / 2);
    if (r->interleaved)
        k->rope_interleaved(x, r->cos + at, r->sin + at, r->n_rot);
    else
        k->rope_half(x, r->cos + at, r->sin + at, r->n_rot);
}

/* GQA. A unit is one row's kv head with its query heads. Rows are counted first, so that a task
 * stores neighbouring positions. */
typedef struct heads_job {
    const shoal_kernels *kernels;
    const shoal_place_heads *step;
    int32_t n_kv_head, n_group; /* n_group: query heads per kv head */
    int32_t units;              /* of one task */
} heads_job;

static void norm_and_rotate(const heads_job *job, float *v, const float *norm, int32_t row)
{
    const shoal_place_heads *s = job->step;
    if (norm != NULL)
        job->kernels->rms_norm(v, v, norm, s->cache->shape.d_k, s->norm_eps);
    rotate(job->kernels, &s->rotation, v, row);
}

static void heads_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    const heads_job *job = arg;
    const shoal_place_heads *s = job->step;
    const int64_t dim = s->cache->shape.d_k;
    const int32_t n_kv_head = job->n_kv_head, n_unit = s->n_row * n_kv_head;
    int32_t unit1 = n_unit - tile * job->units < job->units ? n_unit : (tile + 1) * job->units;
    for (int32_t unit = tile * job->units; unit < unit1; unit++) {
        int32_t head = unit / s->n_row, row = unit % s->n_row;
        float *q = s->q + ((int64_t)row * s->n_head + (int64_t)head * job->n_group) * dim;
        float *key = s->kv + ((int64_t)row * 2 * n_kv_head + head) * dim;
        for (int32_t i = 0; i < job->n_group; i++)
            norm_and_rotate(job, q + i * dim, s->q_norm, row);
        norm_and_rotate(job, key, s->k_norm, row);
        shoal_kv_cache_store(s->cache, job->kernels, s->layer, s->place[row].slot, head,
                             s->place[row].position, key, key + n_kv_head * dim);
    }
}

void shoal_op_place_heads(const shoal_compute *c, const shoal_place_heads *step)
{
    if (c->device != NULL) {
        c->device->ops->place_heads(c->device, step);
        return;
    }
    const shoal_kv_shape *shape = &step->cache->shape;
    heads_job job = {.kernels = c->kernels,
                     .step = step,
                     .n_kv_head = shape->n_head,
                     .n_group = step->n_head / shape->n_head};
    job.units = TILE_VALUES / ((job.n_group + 2) * shape->d_k) + 1;
    if (step->n_row > 0)
        shoal_pool_run(c->pool, heads_tile, &job,
                       (step->n_row * shape->n_head - 1) / job.units + 1);
}

/* MLA. A task has a few rows. */
typedef struct latent_job {
    const shoal_kernels *kernels;
    const shoal_place_latent *step;
    int32_t rows; /* of one task */
} latent_job;

static void latent_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    const latent_job *job = arg;
    const shoal_place_latent *s = job->step;
    const shoal_kernels *k = job->kernels;
    const shoal_kv_shape *shape = &s->cache->shape;
    size_t n_head = (size_t)s->n_head, n_rot = (size_t)s->rotation.n_rot, d_k = (size_t)shape->d_k,
           head_dim = (size_t)s->nope_dim + n_rot;
    int32_t row1 = s->n_row - tile * job->rows < job->rows ? s->n_row : (tile + 1) * job->rows;
    for (int32_t row = tile * job->rows; row < row1; row++) {
        float *kv = s->kv + (size_t)row * d_k;
        k->rms_norm(kv, kv, s->latent_norm, shape->d_v, s->norm_eps);
        rotate(k, &s->rotation, kv + shape->d_v, row);
        shoal_kv_cache_store(s->cache, k, s->layer, s->place[row].slot, 0, s->place[row].position,
                             kv, NULL);
        for (size_t head = 0; head < n_head; head++) {
            size_t at = (size_t)row * n_head + head;
            float *to = s->q_absorbed + at * d_k + shape->d_v;
            memcpy(to, s->q + at * head_dim + s->nope_dim, n_rot * sizeof(float));
            rotate(k, &s->rotation, to, row);
        }
    }
}

void shoal_op_place_latent(const shoal_compute *c, const shoal_place_latent *step)
{
    if (c->device != NULL) {
        c->device->ops->place_latent(c->device, step);
        return;
    }
    latent_job job = {.kernels = c->kernels, .step = step, .rows = TILE_HEADS / step->n_head + 1};
    if (step->n_row > 0)
        shoal_pool_run(c->pool, latent_tile, &job, (step->n_row - 1) / job.rows + 1);
}
