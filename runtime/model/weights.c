/* One walk lists every tensor of the model once, with its role, shape and destination; the pass
 * says what happens there. */
#include "runtime/model/weights.h"

#include "runtime/model/weights_mla.h"

#include <stdlib.h>

typedef enum pass { PASS_CHECK, PASS_CARVE, PASS_LOAD } pass;

typedef struct walker {
    pass pass;
    const shoal_weights_source *source;
    const shoal_spec *spec;
    shoal_arena *arena;
    shoal_weights_totals *totals;
    uint64_t *memory_class; /* which of totals' packed byte counts the current tensors belong to */
} walker;

static uint64_t stored_bytes(const walker *w, const char *name)
{
    const shoal_checkpoint *c = w->source->loader->checkpoint;
    char scale_name[SHOAL_TENSOR_NAME_MAX + 16];
    (void)snprintf(scale_name, sizeof(scale_name), "%s_scale_inv", name);
    const shoal_tensor_info *t = shoal_checkpoint_find(c, name);
    const shoal_tensor_info *scale = shoal_checkpoint_find(c, scale_name);
    uint64_t n_bytes = t != NULL ? t->n_bytes : 0;
    if (t != NULL && t->dtype == SHOAL_DTYPE_F8_E4M3 && scale != NULL)
        n_bytes += scale->n_bytes;
    return n_bytes;
}

static void count_stored(walker *w, const char *name)
{
    w->totals->n_tensor++;
    w->totals->file_bytes += stored_bytes(w, name);
    if (w->memory_class == &w->totals->expert_bytes)
        w->totals->expert_file_bytes += stored_bytes(w, name);
}

static shoal_status loaded(walker *w, const char *name)
{
    count_stored(w, name);
    if (w->source->loaded == NULL)
        return SHOAL_OK;
    return w->source->loaded(w->source->loaded_arg, w->totals);
}

static void carve_matrix(walker *w, shoal_matrix *m)
{
    size_t data_bytes = shoal_matrix_data_bytes(m->format, m->n_row, m->n_col);
    size_t scale_bytes = shoal_matrix_scale_bytes(m->format, m->n_row, m->n_col);
    m->data = shoal_arena_take(w->arena, data_bytes, 1);
    m->scale = scale_bytes > 0 ? shoal_arena_take(w->arena, scale_bytes, 1) : NULL;
    *w->memory_class += data_bytes + scale_bytes;
}

/* A matrix [n_row, n_col]. own: this rank keeps it (others' tensors are checked only; m may then be
 * NULL). */
static shoal_status visit_matrix(walker *w, shoal_matrix *m, bool own, const char *name,
                                 int32_t n_row, int32_t n_col)
{
    if (w->pass == PASS_CHECK) {
        shoal_format format;
        SHOAL_TRY(shoal_load_check_matrix(&format, w->source->loader, shoal_weight_ref_of(name),
                                          n_row, n_col));
        if (own) {
            *m = (shoal_matrix){.format = format, .n_row = n_row, .n_col = n_col};
            count_stored(w, name);
        }
    } else if (own && w->pass == PASS_CARVE) {
        carve_matrix(w, m);
    } else if (own) {
        SHOAL_TRY(shoal_load_matrix(m, w->source->loader, shoal_weight_ref_of(name)));
        return loaded(w, name);
    }
    return SHOAL_OK;
}

static shoal_status visit_vector(walker *w, float **v, bool own, const char *name, int32_t n)
{
    if (w->pass == PASS_CHECK) {
        SHOAL_TRY(shoal_load_check_vector(w->source->loader, shoal_weight_ref_of(name), n));
        if (own)
            count_stored(w, name);
    } else if (own && w->pass == PASS_CARVE) {
        *v = SHOAL_TAKE(w->arena, n, float);
        *w->memory_class += (uint64_t)n * sizeof(float);
    } else if (own) {
        SHOAL_TRY(shoal_load_vector(*v, w->source->loader, shoal_weight_ref_of(name), n));
        return loaded(w, name);
    }
    return SHOAL_OK;
}

static shoal_status matrix(walker *w, shoal_matrix *m, bool own, shoal_role role, int32_t layer,
                           int32_t n_row, int32_t n_col)
{
    char name[SHOAL_TENSOR_NAME_MAX];
    return visit_matrix(w, m, own, shoal_spec_tensor_name(name, w->spec, role, layer, 0), n_row,
                        n_col);
}

static shoal_status vector(walker *w, float **v, bool own, shoal_role role, int32_t layer,
                           int32_t n)
{
    char name[SHOAL_TENSOR_NAME_MAX];
    return visit_vector(w, v, own, shoal_spec_tensor_name(name, w->spec, role, layer, 0), n);
}

static shoal_status walk_mlp(walker *w, shoal_mlp_weights *m, bool own, const shoal_role role[3],
                             int32_t layer, int32_t n_ff)
{
    int32_t n_embd = w->spec->n_embd;
    SHOAL_TRY(matrix(w, &m->gate, own, role[0], layer, n_ff, n_embd));
    SHOAL_TRY(matrix(w, &m->up, own, role[1], layer, n_ff, n_embd));
    return matrix(w, &m->down, own, role[2], layer, n_embd, n_ff);
}

static shoal_status walk_gqa(walker *w, shoal_attention_weights *a, bool own, int32_t layer)
{
    const shoal_attention_config *c = &w->spec->attention;
    int32_t n_embd = w->spec->n_embd, q_width = c->n_head * c->head_dim,
            kv_width = c->n_kv_head * c->head_dim;
    SHOAL_TRY(matrix(w, &a->q, own, SHOAL_ROLE_Q, layer, q_width, n_embd));
    SHOAL_TRY(matrix(w, &a->k, own, SHOAL_ROLE_K, layer, kv_width, n_embd));
    SHOAL_TRY(matrix(w, &a->v, own, SHOAL_ROLE_V, layer, kv_width, n_embd));
    if (c->qk_norm == SHOAL_QK_NORM_HEAD) {
        SHOAL_TRY(vector(w, &a->q_norm, own, SHOAL_ROLE_Q_NORM, layer, c->head_dim));
        SHOAL_TRY(vector(w, &a->k_norm, own, SHOAL_ROLE_K_NORM, layer, c->head_dim));
    }
    return matrix(w, &a->o, own, SHOAL_ROLE_O, layer, n_embd, q_width);
}

/* kv_b is not kept as stored: its heads are rearranged for the absorbed form (weights_mla.h). */
static shoal_status walk_kv_b(walker *w, shoal_attention_weights *a, bool own, int32_t layer)
{
    const shoal_attention_config *c = &w->spec->attention;
    char name[SHOAL_TENSOR_NAME_MAX];
    (void)shoal_spec_tensor_name(name, w->spec, SHOAL_ROLE_KV_B, layer, 0);
    if (w->pass == PASS_CHECK) {
        shoal_format format;
        SHOAL_TRY(shoal_load_check_matrix(&format, w->source->loader, shoal_weight_ref_of(name),
                                          c->n_head * (c->nope_dim + c->v_dim), c->kv_lora_rank));
        if (!own)
            return SHOAL_OK;
        SHOAL_TRY(shoal__mla_heads_open(a, c, format, w->source->log));
        count_stored(w, name);
    } else if (own && w->pass == PASS_CARVE) {
        for (int32_t head = 0; head < c->n_head; head++) {
            carve_matrix(w, &a->k_up[head]);
            carve_matrix(w, &a->v_up[head]);
        }
    } else if (own) {
        SHOAL_TRY(shoal__mla_heads_load(a, c, w->source->loader, name));
        return loaded(w, name);
    }
    return SHOAL_OK;
}

static shoal_status walk_mla(walker *w, shoal_attention_weights *a, bool own, int32_t layer)
{
    const shoal_attention_config *c = &w->spec->attention;
    int32_t n_embd = w->spec->n_embd, q_width = c->n_head * c->head_dim;
    if (c->q_lora_rank > 0) {
        SHOAL_TRY(matrix(w, &a->q_a, own, SHOAL_ROLE_Q_A, layer, c->q_lora_rank, n_embd));
        SHOAL_TRY(vector(w, &a->q_a_norm, own, SHOAL_ROLE_Q_A_NORM, layer, c->q_lora_rank));
        SHOAL_TRY(matrix(w, &a->q_b, own, SHOAL_ROLE_Q_B, layer, q_width, c->q_lora_rank));
    } else {
        SHOAL_TRY(matrix(w, &a->q, own, SHOAL_ROLE_Q, layer, q_width, n_embd));
    }
    SHOAL_TRY(
        matrix(w, &a->kv_a, own, SHOAL_ROLE_KV_A, layer, c->kv_lora_rank + c->rope.n_rot, n_embd));
    SHOAL_TRY(vector(w, &a->kv_a_norm, own, SHOAL_ROLE_KV_A_NORM, layer, c->kv_lora_rank));
    SHOAL_TRY(walk_kv_b(w, a, own, layer));
    return matrix(w, &a->o, own, SHOAL_ROLE_O, layer, n_embd, c->n_head * c->v_dim);
}

/* All experts of a layer have one format, so that shards are plain arrays. */
static shoal_status note_expert_format(walker *w, int32_t moe_layer, const shoal_expert *e,
                                       int32_t expert, const char *name)
{
    shoal_expert_format *format = &w->source->expert_format[moe_layer];
    shoal_expert_format found = {
        .gate = e->gate.format, .up = e->up.format, .down = e->down.format};
    if (expert == 0)
        *format = found;
    if (found.gate != format->gate || found.up != format->up || found.down != format->down)
        return shoal_fail(w->source->log, SHOAL_BAD_DATA,
                          "tensor %s: packs to %s, but expert 0 of its layer to %s; the experts of "
                          "a layer must have one format",
                          name, shoal_format_text(found.down), shoal_format_text(format->down));
    return SHOAL_OK;
}

static shoal_status walk_experts(walker *w, shoal_weights *weights, int32_t layer,
                                 int32_t moe_layer)
{
    const shoal_spec *s = w->spec;
    int32_t n_local = 0;
    char name[SHOAL_TENSOR_NAME_MAX];
    w->memory_class = &w->totals->expert_bytes;
    for (int32_t e = 0; e < s->router.n_expert; e++) {
        bool own = shoal_placement_owner(w->source->placement, moe_layer, e) == w->source->rank;
        if (w->pass == PASS_LOAD && !own)
            continue;
        shoal_expert checked;
        shoal_expert *x =
            w->pass == PASS_LOAD ? &weights->shard.layer[moe_layer].expert[n_local] : &checked;
        struct {
            shoal_role role;
            shoal_matrix *m;
            int32_t n_row, n_col;
        } part[3] = {{SHOAL_ROLE_EXPERT_GATE, &x->gate, s->n_ff_expert, s->n_embd},
                     {SHOAL_ROLE_EXPERT_UP, &x->up, s->n_ff_expert, s->n_embd},
                     {SHOAL_ROLE_EXPERT_DOWN, &x->down, s->n_embd, s->n_ff_expert}};
        for (int32_t i = 0; i < 3; i++) {
            (void)shoal_spec_tensor_name(name, s, part[i].role, layer, e);
            if (w->pass == PASS_LOAD) {
                SHOAL_TRY(visit_matrix(w, part[i].m, true, name, part[i].n_row, part[i].n_col));
                continue;
            }
            shoal_format format;
            SHOAL_TRY(shoal_load_check_matrix(&format, w->source->loader, shoal_weight_ref_of(name),
                                              part[i].n_row, part[i].n_col));
            part[i].m->format = format;
            if (own)
                count_stored(w, name);
        }
        if (w->pass == PASS_CHECK)
            SHOAL_TRY(note_expert_format(w, moe_layer, x, e, name));
        n_local += own ? 1 : 0;
    }
    return SHOAL_OK;
}

static shoal_status walk_layer(walker *w, shoal_weights *weights, int32_t layer, int32_t moe_layer)
{
    static const shoal_role dense_roles[3] = {SHOAL_ROLE_GATE, SHOAL_ROLE_UP, SHOAL_ROLE_DOWN};
    static const shoal_role shared_roles[3] = {SHOAL_ROLE_SHARED_GATE, SHOAL_ROLE_SHARED_UP,
                                               SHOAL_ROLE_SHARED_DOWN};
    const shoal_spec *s = w->spec;
    shoal_layer_weights *l = &weights->layer[layer];
    bool own = weights->has_attention;

    w->memory_class = &w->totals->attention_bytes;
    SHOAL_TRY(vector(w, &l->attn_norm, own, SHOAL_ROLE_ATTN_NORM, layer, s->n_embd));
    if (s->attention.kind == SHOAL_ATTENTION_MLA)
        SHOAL_TRY(walk_mla(w, &l->attention, own, layer));
    else
        SHOAL_TRY(walk_gqa(w, &l->attention, own, layer));

    w->memory_class = &w->totals->other_bytes;
    SHOAL_TRY(vector(w, &l->mlp_norm, own, SHOAL_ROLE_MLP_NORM, layer, s->n_embd));
    if (!s->is_moe[layer])
        return walk_mlp(w, &l->dense, own, dense_roles, layer, s->n_ff_dense);
    SHOAL_TRY(matrix(w, &l->router, own, SHOAL_ROLE_ROUTER, layer, s->router.n_expert, s->n_embd));
    if (s->router_bias_for_select)
        SHOAL_TRY(vector(w, &l->router_select_bias, own, SHOAL_ROLE_ROUTER_SELECT_BIAS, layer,
                         s->router.n_expert));
    if (s->n_ff_shared > 0)
        SHOAL_TRY(walk_mlp(w, &l->shared, own, shared_roles, layer, s->n_ff_shared));
    /* The shard carves its own memory (experts/shard.c); here its tensors are checked and read. */
    return w->pass == PASS_CARVE ? SHOAL_OK : walk_experts(w, weights, layer, moe_layer);
}

static shoal_status walk(walker *w, shoal_weights *weights)
{
    const shoal_spec *s = w->spec;
    bool own = weights->has_attention;
    w->memory_class = &w->totals->other_bytes;
    SHOAL_TRY(matrix(w, &weights->embed, own, SHOAL_ROLE_EMBED, 0, s->n_vocab, s->n_embd));
    SHOAL_TRY(vector(w, &weights->final_norm, own, SHOAL_ROLE_FINAL_NORM, 0, s->n_embd));
    if (!s->tied_embeddings)
        SHOAL_TRY(matrix(w, &weights->lm_head, own, SHOAL_ROLE_LM_HEAD, 0, s->n_vocab, s->n_embd));
    else if (own)
        weights->lm_head = weights->embed;
    int32_t moe_layer = 0;
    for (int32_t layer = 0; layer < s->n_layer; layer++) {
        SHOAL_TRY(walk_layer(w, weights, layer, moe_layer));
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
    weights->layer = calloc((size_t)s->n_layer, sizeof(shoal_layer_weights));
    if (weights->layer == NULL)
        return shoal_fail(source->log, SHOAL_NO_MEMORY, "no memory for the headers of %d layers",
                          s->n_layer);
    weights->n_layer = s->n_layer;
    walker w = {.pass = PASS_CHECK, .source = source, .spec = s, .totals = totals};
    shoal_status status = walk(&w, weights);
    if (status != SHOAL_OK)
        shoal_weights_close(weights);
    return status;
}

void shoal_weights_carve(shoal_weights *weights, shoal_arena *arena, shoal_weights_totals *totals,
                         const shoal_weights_source *source)
{
    const shoal_spec *s = source->spec;
    totals->expert_bytes = totals->attention_bytes = totals->other_bytes = 0;
    walker w = {.pass = PASS_CARVE, .source = source, .spec = s, .arena = arena, .totals = totals};
    (void)walk(&w, weights); /* carving cannot fail */
    size_t before = arena->used_bytes;
    const shoal_expert_shape shape = {
        .n_embd = s->n_embd, .n_ff = s->n_ff_expert, .activation = s->activation};
    shoal_shard_carve(&weights->shard, arena, source->placement, source->rank, &shape,
                      source->expert_format);
    totals->expert_bytes = arena->used_bytes - before;
}

shoal_status shoal_weights_load(shoal_weights *weights, shoal_weights_totals *done,
                                const shoal_weights_source *source)
{
    *done = (shoal_weights_totals){0};
    walker w = {.pass = PASS_LOAD, .source = source, .spec = source->spec, .totals = done};
    return walk(&w, weights);
}

void shoal_weights_close(shoal_weights *weights)
{
    for (int32_t layer = 0; layer < weights->n_layer; layer++) {
        free(weights->layer[layer].attention.k_up);
        free(weights->layer[layer].attention.v_up);
    }
    free(weights->layer);
    *weights = (shoal_weights){0};
}
