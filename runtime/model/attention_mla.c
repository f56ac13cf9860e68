/* Multi-head latent attention in the absorbed form, for every row (rule 1): the cache holds one
 * latent row and one rotated key per position, shared by all heads; q is taken into the latent
 * space (W_UK^T), the attended latent back to values (W_UV). Formulas: DeepSeek-V2 report
 * section 2.1; docs/ARCHITECTURE.md. */
#include "runtime/model/model_state.h"

#include <string.h>

/* q_a_layernorm and kv_a_layernorm are built with the class default, whatever rms_norm_eps says. */
#define MLA_NORM_EPS 1e-6F

enum { TILE_HEADS = 128 }; /* rotated by one task */

static void rotate(const shoal_model *m, float *x, int32_t row)
{
    const shoal_rope_config *rope = &m->spec->attention.rope;
    size_t half = (size_t)rope->n_rot / 2;
    const float *cos = m->step.cos + (size_t)row * half, *sin = m->step.sin + (size_t)row * half;
    if (rope->kind == SHOAL_ROPE_INTERLEAVED)
        m->compute.kernels->rope_interleaved(x, cos, sin, rope->n_rot);
    else
        m->compute.kernels->rope_half(x, cos, sin, rope->n_rot);
}

/* step.q [n, n_head, nope_dim + n_rot] and step.kv [n, kv_lora_rank + n_rot], before norm and
 * rotation. */
static void project(shoal_model *model, const shoal_attention_weights *w, int32_t n)
{
    const shoal_attention_config *a = &model->spec->attention;
    const shoal_compute *c = &model->compute;
    shoal_step *step = &model->step;
    bool low_rank = a->q_lora_rank > 0;
    const shoal_matrix *const matrix[2] = {&w->kv_a, low_rank ? &w->q_a : &w->q};
    shoal_rows h = shoal__normed_rows(model, matrix, 2, n);
    const shoal_matmul_item item[2] = {
        shoal__product(step->kv, matrix[0], h, n),
        shoal__product(low_rank ? step->q_latent : step->q, matrix[1], h, n)};
    shoal_op_matmul_many(c, item, 2);
    if (!low_rank)
        return;
    shoal_op_rms_norm(c, step->q_latent, a->q_lora_rank, step->q_latent, a->q_lora_rank,
                      w->q_a_norm, n, a->q_lora_rank, MLA_NORM_EPS);
    const shoal_matmul_item q =
        shoal__product(step->q, &w->q_b,
                       shoal__rows_for(model, step->attention_int8, &w->q_b, step->q_latent, n), n);
    shoal_op_matmul_many(c, &q, 1);
}

/* Rows [n_row] of the step: the latent is normed, the shared key rotated, both stored; the rotated
 * part of each head's query goes to q_absorbed. A task has a few rows. */
typedef struct row_job {
    shoal_model *model;
    const shoal_attention_weights *w;
    int32_t layer, n_row;
    int32_t rows; /* of one task */
} row_job;

static void row_tile(void *arg, int32_t tile, int32_t worker)
{
    (void)worker;
    const row_job *job = arg;
    shoal_model *m = job->model;
    const shoal_attention_config *a = &m->spec->attention;
    const shoal_kernels *k = m->compute.kernels;
    const shoal_step *step = &m->step;
    size_t n_head = (size_t)a->n_head, n_rot = (size_t)a->rope.n_rot,
           d_k = (size_t)a->kv_lora_rank + n_rot;
    int32_t row1 = job->n_row - tile * job->rows < job->rows ? job->n_row : (tile + 1) * job->rows;
    for (int32_t row = tile * job->rows; row < row1; row++) {
        float *kv = step->kv + (size_t)row * d_k;
        k->rms_norm(kv, kv, job->w->kv_a_norm, a->kv_lora_rank, MLA_NORM_EPS);
        rotate(m, kv + a->kv_lora_rank, row);
        shoal_kv_cache_store(&m->cache, k, job->layer, step->row[row].slot, 0,
                             step->row[row].position, kv, NULL);
        for (size_t head = 0; head < n_head; head++) {
            size_t at = (size_t)row * n_head + head;
            float *to = step->q_absorbed + at * d_k + a->kv_lora_rank;
            memcpy(to, step->q + at * (size_t)a->head_dim + a->nope_dim, n_rot * sizeof(float));
            rotate(m, to, row);
        }
    }
}

static void norm_rotate_store(shoal_model *model, const shoal_attention_weights *w, int32_t layer,
                              int32_t n_row)
{
    row_job job = {.model = model, .w = w, .layer = layer, .n_row = n_row};
    job.rows = TILE_HEADS / model->spec->attention.n_head + 1;
    shoal_pool_run(model->compute.pool, row_tile, &job, (n_row - 1) / job.rows + 1);
}

/* q_absorbed [n, n_head, kv_lora_rank + n_rot]: W_UK^T q_nope, in front of the rotated part. */
static void absorb(shoal_model *model, const shoal_attention_weights *w, int32_t n)
{
    const shoal_attention_config *a = &model->spec->attention;
    shoal_step *step = &model->step;
    int64_t q_width = (int64_t)a->n_head * a->head_dim, d_k = a->kv_lora_rank + a->rope.n_rot;
    for (int32_t head = 0; head < a->n_head; head++)
        step->head_item[head] = (shoal_matmul_item){.y = step->q_absorbed + head * d_k,
                                                    .ld_y = a->n_head * d_k,
                                                    .w = &w->k_up[head],
                                                    .x = step->q + (int64_t)head * a->head_dim,
                                                    .ld_x = q_width,
                                                    .n_token = n};
    shoal_op_matmul_many(&model->compute, step->head_item, a->n_head);
}

void shoal__attention_mla(shoal_model *model, const shoal_forward_input *in, int32_t layer)
{
    const shoal_attention_config *a = &model->spec->attention;
    const shoal_attention_weights *w = &model->weights.layer[layer].attention;
    shoal_step *step = &model->step;
    int64_t value_width = (int64_t)a->n_head * a->v_dim,
            latent_width = (int64_t)a->n_head * a->kv_lora_rank;
    int32_t n = in->n_token;

    project(model, w, n);
    norm_rotate_store(model, w, layer, n);
    absorb(model, w, n);
    shoal__attend(model, in, layer, step->q_absorbed);
    for (int32_t head = 0; head < a->n_head; head++)
        step->head_item[head] =
            (shoal_matmul_item){.y = step->values + (int64_t)head * a->v_dim,
                                .ld_y = value_width,
                                .w = &w->v_up[head],
                                .x = step->attended + (int64_t)head * a->kv_lora_rank,
                                .ld_x = latent_width,
                                .n_token = n};
    shoal_op_matmul_many(&model->compute, step->head_item, a->n_head);
    const shoal_matmul_item out = shoal__product(
        step->acc, &w->o, shoal__rows_for(model, step->attention_int8, &w->o, step->values, n), n);
    shoal_op_matmul_many(&model->compute, &out, 1);
}
