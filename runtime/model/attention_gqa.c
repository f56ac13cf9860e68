/* Grouped-query attention: q, k, v projections, norm of each head of q and k, half-rotated RoPE,
 * the core, the output projection. */
#include "runtime/model/model_state.h"

/* Norm (each head, or all of them as one vector) and rotate n_head heads of every row in place. x:
 * [n_token, ld_x]. */
static void norm_and_rotate(const shoal_model *m, float *x, int64_t ld_x, int32_t n_head,
                            const float *norm, int32_t n_token)
{
    const shoal_attention_config *a = &m->spec->attention;
    const shoal_kernels *k = m->compute.kernels;
    size_t half = (size_t)a->rope.n_rot / 2;
    for (int32_t t = 0; t < n_token; t++) {
        const float *cos = m->step.cos + (size_t)t * half, *sin = m->step.sin + (size_t)t * half;
        if (norm != NULL && a->qk_norm == SHOAL_QK_NORM_WHOLE)
            k->rms_norm(x + t * ld_x, x + t * ld_x, norm, n_head * a->head_dim, m->spec->norm_eps);
        for (int32_t head = 0; head < n_head; head++) {
            float *v = x + t * ld_x + (int64_t)head * a->head_dim;
            if (norm != NULL && a->qk_norm == SHOAL_QK_NORM_HEAD)
                k->rms_norm(v, v, norm, a->head_dim, m->spec->norm_eps);
            if (a->rope.kind == SHOAL_ROPE_HALF)
                k->rope_half(v, cos, sin, a->rope.n_rot);
            else
                k->rope_interleaved(v, cos, sin, a->rope.n_rot);
        }
    }
}

void shoal__attention_gqa(shoal_model *model, const shoal_forward_input *in, int32_t layer)
{
    const shoal_spec *s = model->spec;
    const shoal_attention_config *a = &s->attention;
    const shoal_attention_weights *w = &model->weights.layer[layer].attention;
    shoal_step *step = &model->step;
    int64_t q_width = (int64_t)a->n_head * a->head_dim;
    int64_t k_width = (int64_t)a->n_kv_head * a->head_dim;
    int64_t kv_width = 2 * k_width;
    int32_t n = in->n_token;

    const shoal_matmul_item item[3] = {
        {.y = step->q,
         .ld_y = q_width,
         .w = &w->q,
         .x = step->h,
         .ld_x = s->n_embd,
         .n_token = n,
         .bias = w->q_bias},
        {.y = step->kv,
         .ld_y = kv_width,
         .w = &w->k,
         .x = step->h,
         .ld_x = s->n_embd,
         .n_token = n,
         .bias = w->k_bias},
        {.y = step->kv + k_width,
         .ld_y = kv_width,
         .w = &w->v,
         .x = step->h,
         .ld_x = s->n_embd,
         .n_token = n,
         .bias = w->v_bias},
    };
    shoal_op_matmul_many(&model->compute, item, 3);
    norm_and_rotate(model, step->q, q_width, a->n_head, w->q_norm, n);
    norm_and_rotate(model, step->kv, kv_width, a->n_kv_head, w->k_norm, n);
    for (int32_t c = 0; c < in->n_chunk; c++) {
        const shoal_chunk *chunk = &in->chunk[c];
        for (int32_t r = 0; r < chunk->n_row; r++)
            shoal_kv_cache_store(&model->cache, model->compute.kernels, layer, chunk->slot,
                                 chunk->position0 + r, 0, step->kv + (chunk->row0 + r) * kv_width,
                                 (int32_t)kv_width);
    }
    shoal__attend(model, in, layer, step->q);
    const shoal_matmul_item out = {.y = step->acc,
                                   .ld_y = s->n_embd,
                                   .w = &w->o,
                                   .x = step->attended,
                                   .ld_x = q_width,
                                   .n_token = n,
                                   .bias = w->o_bias};
    shoal_op_matmul_many(&model->compute, &out, 1);
}
