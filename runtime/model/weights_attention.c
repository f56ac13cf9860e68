/* The attention tensors of one layer, for both kinds. */
#include "runtime/model/weights_mla.h"
#include "runtime/model/weights_walk.h"

static shoal_status walk_gqa(shoal_walker *w, shoal_attention_weights *a, bool own, int32_t layer)
{
    const shoal_attention_config *c = &w->spec->attention;
    int32_t n_embd = w->spec->n_embd, q_width = c->n_head * c->head_dim,
            kv_width = c->n_kv_head * c->head_dim;
    SHOAL_TRY(shoal__visit_matrix_role(w, &a->q, own, SHOAL_ROLE_Q, layer, q_width, n_embd));
    SHOAL_TRY(shoal__visit_matrix_role(w, &a->k, own, SHOAL_ROLE_K, layer, kv_width, n_embd));
    SHOAL_TRY(shoal__visit_matrix_role(w, &a->v, own, SHOAL_ROLE_V, layer, kv_width, n_embd));
    if (c->qkv_bias) {
        SHOAL_TRY(shoal__visit_vector_role(w, &a->q_bias, own, SHOAL_ROLE_Q_BIAS, layer, q_width));
        SHOAL_TRY(shoal__visit_vector_role(w, &a->k_bias, own, SHOAL_ROLE_K_BIAS, layer, kv_width));
        SHOAL_TRY(shoal__visit_vector_role(w, &a->v_bias, own, SHOAL_ROLE_V_BIAS, layer, kv_width));
    }
    if (c->qk_norm != SHOAL_QK_NORM_NONE) {
        bool whole = c->qk_norm == SHOAL_QK_NORM_WHOLE;
        SHOAL_TRY(shoal__visit_vector_role(w, &a->q_norm, own, SHOAL_ROLE_Q_NORM, layer,
                                           whole ? q_width : c->head_dim));
        SHOAL_TRY(shoal__visit_vector_role(w, &a->k_norm, own, SHOAL_ROLE_K_NORM, layer,
                                           whole ? kv_width : c->head_dim));
    }
    if (c->sinks)
        SHOAL_TRY(shoal__visit_vector_role(w, &a->sinks, own, SHOAL_ROLE_SINKS, layer, c->n_head));
    if (c->o_bias)
        SHOAL_TRY(shoal__visit_vector_role(w, &a->o_bias, own, SHOAL_ROLE_O_BIAS, layer, n_embd));
    return shoal__visit_matrix_role(w, &a->o, own, SHOAL_ROLE_O, layer, n_embd, q_width);
}

/* kv_b is not kept as stored: its heads are rearranged for the absorbed form (weights_mla.h). */
static shoal_status walk_kv_b(shoal_walker *w, shoal_attention_weights *a, bool own, int32_t layer)
{
    const shoal_attention_config *c = &w->spec->attention;
    int32_t n_row = c->n_head * (c->nope_dim + c->v_dim);
    char name[SHOAL_TENSOR_NAME_MAX];
    shoal_weight_ref ref =
        shoal_weight_ref_of(shoal_spec_tensor_name(name, w->spec, SHOAL_ROLE_KV_B, layer, 0));
    if (w->pass == SHOAL_PASS_CHECK) {
        shoal_format format;
        SHOAL_TRY(shoal_load_check_matrix(&format, w->source->loader, ref, n_row, c->kv_lora_rank));
        if (!own)
            return SHOAL_OK;
        SHOAL_TRY(shoal__mla_heads_open(a, c, format, w->source->log));
        shoal__walk_count(w, ref, n_row);
    } else if (own && w->pass == SHOAL_PASS_CARVE) {
        for (int32_t head = 0; head < c->n_head; head++) {
            shoal__walk_carve(w, &a->k_up[head]);
            shoal__walk_carve(w, &a->v_up[head]);
        }
    } else if (own) {
        SHOAL_TRY(shoal__mla_heads_load(a, c, w->source->loader, name));
        return shoal__walk_loaded(w, ref, n_row);
    }
    return SHOAL_OK;
}

static shoal_status walk_mla(shoal_walker *w, shoal_attention_weights *a, bool own, int32_t layer)
{
    const shoal_attention_config *c = &w->spec->attention;
    int32_t n_embd = w->spec->n_embd, q_width = c->n_head * c->head_dim;
    if (c->q_lora_rank > 0) {
        SHOAL_TRY(shoal__visit_matrix_role(w, &a->q_a, own, SHOAL_ROLE_Q_A, layer, c->q_lora_rank,
                                           n_embd));
        SHOAL_TRY(shoal__visit_vector_role(w, &a->q_a_norm, own, SHOAL_ROLE_Q_A_NORM, layer,
                                           c->q_lora_rank));
        SHOAL_TRY(shoal__visit_matrix_role(w, &a->q_b, own, SHOAL_ROLE_Q_B, layer, q_width,
                                           c->q_lora_rank));
    } else {
        SHOAL_TRY(shoal__visit_matrix_role(w, &a->q, own, SHOAL_ROLE_Q, layer, q_width, n_embd));
    }
    SHOAL_TRY(shoal__visit_matrix_role(w, &a->kv_a, own, SHOAL_ROLE_KV_A, layer,
                                       c->kv_lora_rank + c->rope.n_rot, n_embd));
    SHOAL_TRY(shoal__visit_vector_role(w, &a->kv_a_norm, own, SHOAL_ROLE_KV_A_NORM, layer,
                                       c->kv_lora_rank));
    SHOAL_TRY(walk_kv_b(w, a, own, layer));
    return shoal__visit_matrix_role(w, &a->o, own, SHOAL_ROLE_O, layer, n_embd,
                                    c->n_head * c->v_dim);
}

shoal_status shoal__walk_attention(shoal_walker *w, shoal_attention_weights *a, bool own,
                                   int32_t layer)
{
    return w->spec->attention.kind == SHOAL_ATTENTION_MLA ? walk_mla(w, a, own, layer)
                                                          : walk_gqa(w, a, own, layer);
}
