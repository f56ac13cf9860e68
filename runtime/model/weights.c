/* The walk over the model and its layers, and the three passes. */
#include "runtime/model/weights_device.h"
#include "runtime/model/weights_kept.h"

#include <stdlib.h>

static shoal_status walk_mlp(shoal_walker *w, shoal_mlp_weights *m, bool own,
                             const shoal_role role[3], int32_t layer, int32_t n_ff)
{
    int32_t n_embd = w->spec->n_embd;
    SHOAL_TRY(shoal__visit_matrix_role(w, &m->gate, own, role[0], layer, n_ff, n_embd));
    SHOAL_TRY(shoal__visit_matrix_role(w, &m->up, own, role[1], layer, n_ff, n_embd));
    return shoal__visit_matrix_role(w, &m->down, own, role[2], layer, n_embd, n_ff);
}

/* All of a layer but its experts. */
static shoal_status walk_layer(shoal_walker *w, shoal_weights *weights, int32_t layer)
{
    static const shoal_role dense_roles[3] = {SHOAL_ROLE_GATE, SHOAL_ROLE_UP, SHOAL_ROLE_DOWN};
    static const shoal_role shared_roles[3] = {SHOAL_ROLE_SHARED_GATE, SHOAL_ROLE_SHARED_UP,
                                               SHOAL_ROLE_SHARED_DOWN};
    const shoal_spec *s = w->spec;
    shoal_layer_weights *l = &weights->layer[layer];
    bool own = weights->has_attention;

    w->memory_class = &w->totals->attention_bytes;
    SHOAL_TRY(
        shoal__visit_vector_role(w, &l->attn_norm, own, SHOAL_ROLE_ATTN_NORM, layer, s->n_embd));
    SHOAL_TRY(shoal__walk_attention(w, &l->attention, own, layer));

    w->memory_class = &w->totals->other_bytes;
    SHOAL_TRY(
        shoal__visit_vector_role(w, &l->mlp_norm, own, SHOAL_ROLE_MLP_NORM, layer, s->n_embd));
    if (!s->is_moe[layer])
        return walk_mlp(w, &l->dense, own, dense_roles, layer, s->n_ff_dense);
    SHOAL_TRY(shoal__visit_matrix_role(w, &l->router, own, SHOAL_ROLE_ROUTER, layer,
                                       s->router.n_expert, s->n_embd));
    if (s->router_bias)
        SHOAL_TRY(shoal__visit_vector_role(w, &l->router_bias, own, SHOAL_ROLE_ROUTER_BIAS, layer,
                                           s->router.n_expert));
    if (s->router_bias_for_select)
        SHOAL_TRY(shoal__visit_vector_role(w, &l->router_select_bias, own,
                                           SHOAL_ROLE_ROUTER_SELECT_BIAS, layer,
                                           s->router.n_expert));
    if (s->n_ff_shared > 0)
        SHOAL_TRY(walk_mlp(w, &l->shared, own, shared_roles, layer, s->n_ff_shared));
    if (s->shared_gated)
        SHOAL_TRY(shoal__visit_matrix_role(w, &l->shared_gate, own, SHOAL_ROLE_SHARED_EXPERT_GATE,
                                           layer, 1, s->n_embd));
    return SHOAL_OK;
}

/* What an MTP layer has beyond a decoder layer. Its copies of embedding and head equal the main
 * ones: not read. */
static shoal_status walk_mtp(shoal_walker *w, shoal_mtp_weights *m, bool own, int32_t layer)
{
    int32_t n_embd = w->spec->n_embd;
    w->memory_class = &w->totals->other_bytes;
    SHOAL_TRY(
        shoal__visit_vector_role(w, &m->embed_norm, own, SHOAL_ROLE_MTP_EMBED_NORM, layer, n_embd));
    SHOAL_TRY(shoal__visit_vector_role(w, &m->hidden_norm, own, SHOAL_ROLE_MTP_HIDDEN_NORM, layer,
                                       n_embd));
    SHOAL_TRY(
        shoal__visit_vector_role(w, &m->head_norm, own, SHOAL_ROLE_MTP_HEAD_NORM, layer, n_embd));
    return shoal__visit_matrix_role(w, &m->project, own, SHOAL_ROLE_MTP_PROJECT, layer, n_embd,
                                    2 * n_embd);
}

/* A head that is the embedding once more, in the memory of a device. It is in no unit of the cache:
 * CPU ranks have none. */
static shoal_status walk_head_copy(shoal_walker *w, shoal_weights *weights)
{
    const shoal_matrix *from = &weights->embed;
    if (w->pass == SHOAL_PASS_LOAD)
        return shoal__device_copy(w, &weights->lm_head, from);
    weights->lm_head =
        (shoal_matrix){.format = from->format, .n_row = from->n_row, .n_col = from->n_col};
    if (w->pass == SHOAL_PASS_CARVE)
        shoal__walk_carve(w, &weights->lm_head);
    return SHOAL_OK;
}

/* A tied head is the embedding, or made from the same tensor in the format that was chosen. */
static shoal_status walk_head(shoal_walker *w, shoal_weights *weights, bool own)
{
    const shoal_spec *s = w->spec;
    char name[SHOAL_TENSOR_NAME_MAX];
    shoal_role role = s->tied_embeddings ? SHOAL_ROLE_EMBED : SHOAL_ROLE_LM_HEAD;
    shoal_weight_ref ref = shoal_weight_ref_of(shoal_spec_tensor_name(name, s, role, 0, 0));
    ref.weights = w->source->choice;
    w->role = SHOAL_ROLE_LM_HEAD;
    if (w->pass == SHOAL_PASS_CHECK) {
        shoal_format format;
        SHOAL_TRY(shoal__walk_format(&format, w, ref, s->n_vocab, s->n_embd));
        weights->own_head = !s->tied_embeddings || format != weights->embed.format;
    }
    if (!own)
        return SHOAL_OK;
    if (weights->own_head)
        return shoal__visit_matrix(w, &weights->lm_head, own, ref, s->n_vocab, s->n_embd);
    if (shoal__to_device(w))
        return walk_head_copy(w, weights);
    weights->lm_head = weights->embed;
    return SHOAL_OK;
}

shoal_status shoal__walk_model(shoal_walker *w, shoal_weights *weights)
{
    const shoal_spec *s = w->spec;
    bool own = weights->has_attention;
    w->memory_class = &w->totals->other_bytes;
    SHOAL_TRY(shoal__unit_begin(w, SHOAL_PACK_NO_LAYER, SHOAL_PACK_NO_EXPERT, own));
    w->in_host = true; /* rows are looked up there */
    const shoal_status status = shoal__visit_matrix_role(w, &weights->embed, own, SHOAL_ROLE_EMBED,
                                                         0, s->n_vocab, s->n_embd);
    w->in_host = false;
    SHOAL_TRY(status);
    SHOAL_TRY(shoal__visit_vector_role(w, &weights->final_norm, own, SHOAL_ROLE_FINAL_NORM, 0,
                                       s->n_embd));
    SHOAL_TRY(walk_head(w, weights, own));
    return shoal__unit_end(w);
}

shoal_status shoal__walk_layer(shoal_walker *w, shoal_weights *weights, int32_t layer)
{
    bool own = weights->has_attention;
    SHOAL_TRY(shoal__unit_begin(w, layer, SHOAL_PACK_NO_EXPERT, own));
    if (layer >= w->spec->n_layer)
        SHOAL_TRY(walk_mtp(w, &weights->mtp, own, layer));
    SHOAL_TRY(walk_layer(w, weights, layer));
    return shoal__unit_end(w);
}

static shoal_status walk(shoal_walker *w, shoal_weights *weights)
{
    const shoal_spec *s = w->spec;
    SHOAL_TRY(shoal__walk_model(w, weights));
    shoal__units_keep(w);
    int32_t moe_layer = 0;
    for (int32_t layer = 0; layer < weights->n_layer; layer++) {
        w->totals->layer = layer;
        SHOAL_TRY(shoal__walk_layer(w, weights, layer));
        shoal__units_keep(w);
        if (s->is_moe[layer] && w->pass != SHOAL_PASS_CARVE)
            SHOAL_TRY(shoal__walk_experts(w, weights, layer, moe_layer));
        moe_layer += s->is_moe[layer] ? 1 : 0;
    }
    return SHOAL_OK;
}

shoal_status shoal_weights_check(shoal_weights *weights, shoal_weights_totals *totals,
                                 const shoal_weights_source *source)
{
    const shoal_spec *s = source->spec;
    *weights =
        (shoal_weights){.has_attention = source->placement->sequence_weight[source->rank] > 0.0};
    *totals = (shoal_weights_totals){0};
    weights->n_layer = s->n_layer + source->n_mtp;
    weights->layer = calloc((size_t)weights->n_layer, sizeof(shoal_layer_weights));
    if (weights->layer == NULL)
        return shoal_fail(source->log, SHOAL_NO_MEMORY, "no memory for the headers of %d layers",
                          weights->n_layer);
    const size_t n_expert = (size_t)source->placement->n_layer * (size_t)s->router.n_expert;
    if (source->cache != NULL && n_expert > 0 && !source->on_device) {
        weights->kept_expert = calloc(n_expert, sizeof(shoal_expert));
        if (weights->kept_expert == NULL) {
            shoal_weights_close(weights);
            return shoal_fail(source->log, SHOAL_NO_MEMORY,
                              "no memory for the headers of %zu experts", n_expert);
        }
    }
    shoal_walker w = {.pass = SHOAL_PASS_CHECK, .source = source, .spec = s, .totals = totals};
    shoal_status status = walk(&w, weights);
    if (status != SHOAL_OK)
        shoal_weights_close(weights);
    return status;
}

void shoal_weights_carve(shoal_weights *weights, shoal_arenas arenas, shoal_weights_totals *totals,
                         const shoal_weights_source *source)
{
    const shoal_spec *s = source->spec;
    totals->expert_bytes = totals->attention_bytes = totals->other_bytes = 0;
    shoal_walker w = {
        .pass = SHOAL_PASS_CARVE, .source = source, .spec = s, .arenas = arenas, .totals = totals};
    (void)walk(&w, weights); /* carving cannot fail */
    const size_t before = arenas.device->used_bytes, before_host = arenas.host->used_bytes;
    const shoal_shard_plan plan = {.placement = source->placement,
                                   .rank = source->rank,
                                   .shape = {.n_embd = s->n_embd,
                                             .n_ff = s->n_ff_expert,
                                             .has_bias = s->expert_bias,
                                             .activation = s->activation},
                                   .format = source->expert_format,
                                   .kept = weights->kept_expert};
    shoal_shard_carve(&weights->shard, arenas, &plan);
    totals->expert_bytes = arenas.device->used_bytes - before;
    if (source->on_device) {
        totals->device_expert_bytes = totals->expert_bytes;
        totals->expert_bytes += arenas.host->used_bytes - before_host;
    }
}

shoal_status shoal_weights_load(shoal_weights *weights, shoal_weights_totals *done,
                                const shoal_weights_source *source)
{
    *done = (shoal_weights_totals){0};
    shoal_walker w = {
        .pass = SHOAL_PASS_LOAD, .source = source, .spec = source->spec, .totals = done};
    const shoal_status status = walk(&w, weights);
    shoal__units_close(&w);
    return status;
}

void shoal_weights_close(shoal_weights *weights)
{
    for (int32_t layer = 0; layer < weights->n_layer; layer++) {
        free(weights->layer[layer].attention.k_up);
        free(weights->layer[layer].attention.v_up);
    }
    free(weights->layer);
    free(weights->kept_expert);
    *weights = (shoal_weights){0};
}
