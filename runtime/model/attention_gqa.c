/* Grouped-query attention: q, k, v projections, norm of each head of q and k, half-rotated RoPE,
 * the core, the output projection. */
#include "runtime/model/model_state.h"

enum { TILE_VALUES = 1 << 13 }; /* normed, rotated and stored by one task */

/* Between the projections and the core: a unit is one row's kv head with its query heads. Rows are
 * counted first, so that a task stores neighbouring positions. */
typedef struct head_job {
    shoal_model *model;
    const shoal_attention_weights *w;
    int32_t layer, n_row;
    int32_t n_group; /* query heads per kv head */
    int32_t units;   /* of one task */
} head_job;

/* One head in place. */
static void norm_and_rotate(const shoal_model *m, float *v, const float *norm, int32_t row)
{
    const shoal_attention_config *a = &m->spec->attention;
    const shoal_kernels *k = m->compute.kernels;
    size_t half = (size_t)a->rope.n_rot / 2;
    const float *cos = m->step.cos + (size_t)row * half, *sin = m->step.sin + (size_t)row * half;
    if (norm != NULL && a->qk_norm == SHOAL_QK_NORM_HEAD)
        k->rms_norm(v, v, norm, a->head_dim, m->spec->norm_eps);
    if (a->rope.kind == SHOAL_ROPE_HALF)
        k->rope_half(v, cos, sin, a->rope.n_rot);
    else
        k->rope_interleaved(v, cos, sin, a->rope.n_rot);
}

static void head_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    const head_job *job = arg;
    shoal_model *m = job->model;
    const shoal_attention_config *a = &m->spec->attention;
    const shoal_step *step = &m->step;
    int64_t dim = a->head_dim;
    int32_t n_unit = job->n_row * a->n_kv_head;
    int32_t unit1 = n_unit - tile * job->units < job->units ? n_unit : (tile + 1) * job->units;
    for (int32_t unit = tile * job->units; unit < unit1; unit++) {
        int32_t head = unit / job->n_row, row = unit % job->n_row;
        float *q = step->q + ((int64_t)row * a->n_head + (int64_t)head * job->n_group) * dim;
        float *key = step->kv + ((int64_t)row * 2 * a->n_kv_head + head) * dim;
        for (int32_t i = 0; i < job->n_group; i++)
            norm_and_rotate(m, q + i * dim, job->w->q_norm, row);
        norm_and_rotate(m, key, job->w->k_norm, row);
        shoal_kv_cache_store(&m->cache, m->compute.kernels, job->layer, step->row[row].slot, head,
                             step->row[row].position, key, key + a->n_kv_head * dim);
    }
}

static void norm_rotate_store(shoal_model *model, const shoal_attention_weights *w, int32_t layer,
                              int32_t n_row)
{
    const shoal_spec *s = model->spec;
    const shoal_attention_config *a = &s->attention;
    const shoal_step *step = &model->step;
    int32_t q_width = a->n_head * a->head_dim, k_width = a->n_kv_head * a->head_dim;
    if (a->qk_norm == SHOAL_QK_NORM_WHOLE) { /* all heads as one vector */
        shoal_op_rms_norm(&model->compute, step->q, q_width, step->q, q_width, w->q_norm, n_row,
                          q_width, s->norm_eps);
        shoal_op_rms_norm(&model->compute, step->kv, 2 * (int64_t)k_width, step->kv,
                          2 * (int64_t)k_width, w->k_norm, n_row, k_width, s->norm_eps);
    }
    head_job job = {.model = model,
                    .w = w,
                    .layer = layer,
                    .n_row = n_row,
                    .n_group = a->n_head / a->n_kv_head};
    job.units = TILE_VALUES / ((job.n_group + 2) * a->head_dim) + 1;
    shoal_pool_run(model->compute.pool, head_tile, &job,
                   (n_row * a->n_kv_head - 1) / job.units + 1);
}

/* step.q [n, n_head, head_dim], step.kv [n, 2, n_kv_head, head_dim], before norm and rotation. */
static void project(shoal_model *model, const shoal_attention_weights *w, int32_t n)
{
    shoal_step *step = &model->step;
    int64_t k_width = w->k.n_row;
    const shoal_matrix *const matrix[3] = {&w->q, &w->k, &w->v};
    shoal_rows h = shoal__normed_rows(model, matrix, 3, n);
    shoal_matmul_item item[3] = {shoal__product(step->q, &w->q, h, n),
                                 shoal__product(step->kv, &w->k, h, n),
                                 shoal__product(step->kv + k_width, &w->v, h, n)};
    item[1].ld_y = item[2].ld_y = 2 * k_width;
    item[0].bias = w->q_bias;
    item[1].bias = w->k_bias;
    item[2].bias = w->v_bias;
    shoal_op_matmul_many(&model->compute, item, 3);
}

void shoal__attention_gqa(shoal_model *model, const shoal_forward_input *in, int32_t layer)
{
    const shoal_attention_weights *w = &model->weights.layer[layer].attention;
    shoal_step *step = &model->step;
    int32_t n = in->n_token;
    project(model, w, n);
    norm_rotate_store(model, w, layer, n);
    shoal__attend(model, in, layer, step->q);
    shoal_matmul_item out =
        shoal__product(step->acc, &w->o,
                       shoal__rows_for(model, step->attention_int8, &w->o, step->attended, n), n);
    out.bias = w->o_bias;
    shoal_op_matmul_many(&model->compute, &out, 1);
}
