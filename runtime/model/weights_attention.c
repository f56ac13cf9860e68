/* The attention tensors of one layer, for both kinds. */
#include "runtime/model/weights_device.h"
#include "runtime/model/weights_kept.h"
#include "runtime/model/weights_mla.h"

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

/* Head h of kv_b in the cache: W_UK transposed (0) or W_UV (1), as they are rearranged. */
static shoal_weight_ref head_ref(shoal_weight_ref kv_b, int32_t head, int32_t which)
{
    kv_b.slice = head;
    kv_b.row0 = which;
    return kv_b;
}

/* Half of a head as a unit of the cache has it, if it does; else *half as it is. */
static bool find_half(shoal_matrix *found, const shoal_walker *w, const shoal_matrix *half,
                      shoal_weight_ref ref)
{
    *found = *half;
    return shoal__unit_find(w, found, ref);
}

/* True if the cache has all heads, which then point to it where they are used there. */
static bool find_heads(const shoal_walker *w, shoal_attention_weights *a, shoal_weight_ref kv_b)
{
    const int32_t n_head = w->spec->attention.n_head;
    shoal_matrix k, v;
    for (int32_t head = 0; head < n_head; head++)
        if (!find_half(&k, w, &a->k_up[head], head_ref(kv_b, head, 0)) ||
            !find_half(&v, w, &a->v_up[head], head_ref(kv_b, head, 1)))
            return false;
    for (int32_t head = 0; head < n_head && !shoal__to_device(w); head++) {
        (void)shoal__unit_find(w, &a->k_up[head], head_ref(kv_b, head, 0));
        (void)shoal__unit_find(w, &a->v_up[head], head_ref(kv_b, head, 1));
    }
    return true;
}

static shoal_status check_kv_b(shoal_walker *w, shoal_attention_weights *a, bool own,
                               shoal_weight_ref ref)
{
    const shoal_attention_config *c = &w->spec->attention;
    const int32_t n_row = c->n_head * (c->nope_dim + c->v_dim);
    shoal_format format;
    w->role = SHOAL_ROLE_KV_B;
    SHOAL_TRY(shoal__walk_format(&format, w, ref, n_row, c->kv_lora_rank));
    if (!own)
        return SHOAL_OK;
    SHOAL_TRY(shoal__mla_heads_open(a, c, format, w->source->log));
    if (!find_heads(w, a, ref)) {
        shoal__walk_count(w, ref, n_row);
        return SHOAL_OK;
    }
    for (int32_t head = 0; head < c->n_head; head++) {
        shoal__unit_count(w, &a->k_up[head]);
        shoal__unit_count(w, &a->v_up[head]);
    }
    return SHOAL_OK;
}

/* As the cache has them. */
static shoal_status fetch_heads(shoal_walker *w, shoal_attention_weights *a, shoal_weight_ref kv_b)
{
    for (int32_t head = 0; head < w->spec->attention.n_head; head++) {
        shoal_matrix *const half[2] = {&a->k_up[head], &a->v_up[head]};
        for (int32_t which = 0; which < 2; which++) {
            shoal_matrix kept;
            (void)find_half(&kept, w, half[which], head_ref(kv_b, head, which));
            SHOAL_TRY(shoal__unit_fetch(w, half[which], &kept));
        }
    }
    return SHOAL_OK;
}

static shoal_status read_heads(shoal_walker *w, shoal_attention_weights *a, shoal_weight_ref kv_b,
                               shoal__mla_head *read)
{
    for (int32_t head = 0; head < w->spec->attention.n_head; head++) {
        shoal_matrix *const half[2] = {&a->k_up[head], &a->v_up[head]};
        SHOAL_TRY(shoal__mla_head_read(read, w->source->loader, kv_b.name, head));
        for (int32_t which = 0; which < 2; which++) {
            shoal_matrix to;
            SHOAL_TRY(shoal__fill_begin(&to, w, half[which]));
            shoal__mla_head_pack(&to, read, which);
            SHOAL_TRY(shoal__fill_end(w, half[which], &to, head_ref(kv_b, head, which)));
        }
    }
    return SHOAL_OK;
}

static shoal_status load_kv_b(shoal_walker *w, shoal_attention_weights *a, shoal_weight_ref ref)
{
    const shoal_attention_config *c = &w->spec->attention;
    if (find_heads(w, a, ref))
        return fetch_heads(w, a, ref);
    shoal__mla_head read;
    SHOAL_TRY(shoal__mla_head_open(&read, c, w->source->log));
    const shoal_status status = read_heads(w, a, ref, &read);
    shoal__mla_head_close(&read);
    SHOAL_TRY(status);
    return shoal__walk_loaded(w, ref, c->n_head * (c->nope_dim + c->v_dim));
}

/* kv_b is not kept as stored: its heads are rearranged for the absorbed form (weights_mla.h). */
static shoal_status walk_kv_b(shoal_walker *w, shoal_attention_weights *a, bool own, int32_t layer)
{
    char name[SHOAL_TENSOR_NAME_MAX];
    shoal_weight_ref ref =
        shoal_weight_ref_of(shoal_spec_tensor_name(name, w->spec, SHOAL_ROLE_KV_B, layer, 0));
    if (w->pass == SHOAL_PASS_CHECK)
        return check_kv_b(w, a, own, ref);
    if (own && w->pass == SHOAL_PASS_LOAD)
        return load_kv_b(w, a, ref);
    if (!own || (find_heads(w, a, ref) && !shoal__to_device(w)))
        return SHOAL_OK;
    for (int32_t head = 0; head < w->spec->attention.n_head; head++) {
        shoal__walk_carve(w, &a->k_up[head]);
        SHOAL_TRY(shoal__unit_add(w, &a->k_up[head], head_ref(ref, head, 0)));
        shoal__walk_carve(w, &a->v_up[head]);
        SHOAL_TRY(shoal__unit_add(w, &a->v_up[head], head_ref(ref, head, 1)));
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
