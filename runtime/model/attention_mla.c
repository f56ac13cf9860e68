/* Multi-head latent attention in the absorbed form, for every row (rule 1): the cache holds one
 * latent row and one rotated key per position, shared by all heads; q is taken into the latent
 * space (W_UK^T), the attended latent back to values (W_UV). Formulas: DeepSeek-V2 report
 * section 2.1; docs/ARCHITECTURE.md. */
#include "runtime/model/model_state.h"

/* q_a_layernorm and kv_a_layernorm are built with the class default, whatever rms_norm_eps says. */
#define MLA_NORM_EPS 1e-6F

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

static void norm_rotate_store(shoal_model *model, const shoal_attention_weights *w, int32_t layer,
                              int32_t n_row)
{
    const shoal_attention_config *a = &model->spec->attention;
    const shoal_step *step = &model->step;
    const shoal_place_latent latent = {.cache = &model->cache,
                                       .layer = layer,
                                       .n_row = n_row,
                                       .n_head = a->n_head,
                                       .place = step->place,
                                       .kv = step->kv,
                                       .q = step->q,
                                       .q_absorbed = step->q_absorbed,
                                       .nope_dim = a->nope_dim,
                                       .latent_norm = w->kv_a_norm,
                                       .norm_eps = MLA_NORM_EPS,
                                       .rotation = shoal__rotation(model)};
    shoal_op_place_latent(&model->compute, &latent);
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
