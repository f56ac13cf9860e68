/* Multi-head latent attention in the absorbed form, for every row (rule 1): the cache holds one
 * latent row and one rotated key per position, shared by all heads; q is taken into the latent
 * space (W_UK^T), the attended latent back to values (W_UV). Formulas: DeepSeek-V2 report
 * section 2.1; docs/ARCHITECTURE.md. */
#include "runtime/model/model_state.h"

#include <string.h>

/* q_a_layernorm and kv_a_layernorm are built with the class default, whatever rms_norm_eps says. */
#define MLA_NORM_EPS 1e-6F

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

/* step.q [n, n_head, nope_dim + n_rot] and step.kv [n, kv_lora_rank + n_rot], before rotation. */
static void project(shoal_model *model, const shoal_attention_weights *w, int32_t n)
{
    const shoal_spec *s = model->spec;
    const shoal_attention_config *a = &s->attention;
    const shoal_compute *c = &model->compute;
    shoal_step *step = &model->step;
    int64_t q_width = (int64_t)a->n_head * a->head_dim;
    int64_t kv_width = a->kv_lora_rank + a->rope.n_rot;
    bool low_rank = a->q_lora_rank > 0;
    const shoal_matmul_item item[2] = {
        {.y = step->kv,
         .ld_y = kv_width,
         .w = &w->kv_a,
         .x = step->h,
         .ld_x = s->n_embd,
         .n_token = n},
        {.y = low_rank ? step->q_latent : step->q,
         .ld_y = low_rank ? a->q_lora_rank : q_width,
         .w = low_rank ? &w->q_a : &w->q,
         .x = step->h,
         .ld_x = s->n_embd,
         .n_token = n},
    };
    shoal_op_matmul_many(c, item, 2);
    if (low_rank) {
        shoal_op_rms_norm(c, step->q_latent, a->q_lora_rank, step->q_latent, a->q_lora_rank,
                          w->q_a_norm, n, a->q_lora_rank, MLA_NORM_EPS);
        shoal_op_matmul(c, step->q, q_width, &w->q_b, step->q_latent, a->q_lora_rank, n);
    }
    shoal_op_rms_norm(c, step->kv, kv_width, step->kv, kv_width, w->kv_a_norm, n, a->kv_lora_rank,
                      MLA_NORM_EPS);
}

/* Rotate the shared key, store the cache rows. */
static void store_rows(shoal_model *model, const shoal_forward_input *in, int32_t layer)
{
    const shoal_attention_config *a = &model->spec->attention;
    int32_t kv_width = a->kv_lora_rank + a->rope.n_rot;
    for (int32_t c = 0; c < in->n_chunk; c++) {
        const shoal_chunk *chunk = &in->chunk[c];
        for (int32_t r = 0; r < chunk->n_row; r++) {
            float *row = model->step.kv + (size_t)(chunk->row0 + r) * (size_t)kv_width;
            rotate(model, row + a->kv_lora_rank, chunk->row0 + r);
            shoal_kv_cache_store(&model->cache, model->compute.kernels, layer, chunk->slot,
                                 chunk->position0 + r, 0, row, kv_width);
        }
    }
}

/* q_absorbed [n, n_head, kv_lora_rank + n_rot]: W_UK^T q_nope, then the rotated part. */
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
    for (int32_t t = 0; t < n; t++) {
        for (int32_t head = 0; head < a->n_head; head++) {
            const float *from = step->q + t * q_width + (int64_t)head * a->head_dim + a->nope_dim;
            float *to = step->q_absorbed + (t * (int64_t)a->n_head + head) * d_k + a->kv_lora_rank;
            memcpy(to, from, (size_t)a->rope.n_rot * sizeof(float));
            rotate(model, to, t);
        }
    }
}

void shoal__attention_mla(shoal_model *model, const shoal_forward_input *in, int32_t layer)
{
    const shoal_spec *s = model->spec;
    const shoal_attention_config *a = &s->attention;
    const shoal_attention_weights *w = &model->weights.layer[layer].attention;
    shoal_step *step = &model->step;
    int64_t value_width = (int64_t)a->n_head * a->v_dim,
            latent_width = (int64_t)a->n_head * a->kv_lora_rank;
    int32_t n = in->n_token;

    project(model, w, n);
    store_rows(model, in, layer);
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
    shoal_op_matmul(&model->compute, step->acc, s->n_embd, &w->o, step->values, value_width, n);
}
