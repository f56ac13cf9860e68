/* Grouped-query attention: q, k, v projections, norm of each head of q and k, half-rotated RoPE,
 * the core, the output projection. */
#include "runtime/model/model_state.h"

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
    const bool each = a->qk_norm == SHOAL_QK_NORM_HEAD;
    const shoal_place_heads heads = {.cache = &model->cache,
                                     .layer = layer,
                                     .n_row = n_row,
                                     .n_head = a->n_head,
                                     .place = step->place,
                                     .q = step->q,
                                     .kv = step->kv,
                                     .q_norm = each ? w->q_norm : NULL,
                                     .k_norm = each ? w->k_norm : NULL,
                                     .norm_eps = s->norm_eps,
                                     .rotation = shoal__rotation(model)};
    shoal_op_place_heads(&model->compute, &heads);
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
