/* Shapes of all weights that a spec asks for, and what they count up to. */
#include "runtime/model/spec.h"

typedef struct shape_list {
    shoal_weight_shape *shape;
    int32_t n;
} shape_list;

static void add(shape_list *list, shoal_weight_class weight_class, bool linear, int64_t n_row,
                int64_t n_col, int64_t count)
{
    if (n_row > 0 && n_col > 0 && count > 0)
        list->shape[list->n++] = (shoal_weight_shape){.weight_class = weight_class,
                                                      .linear = linear,
                                                      .n_row = n_row,
                                                      .n_col = n_col,
                                                      .count = count};
}

static void add_gqa(shape_list *list, const shoal_spec *spec, int64_t n_layer)
{
    const shoal_attention_config *a = &spec->attention;
    int64_t n_embd = spec->n_embd;
    int64_t q_width = (int64_t)a->n_head * a->head_dim;
    int64_t kv_width = (int64_t)a->n_kv_head * a->head_dim;
    add(list, SHOAL_WEIGHT_ATTENTION, true, q_width, n_embd, n_layer);
    add(list, SHOAL_WEIGHT_ATTENTION, true, kv_width, n_embd, 2 * n_layer);
    add(list, SHOAL_WEIGHT_ATTENTION, true, n_embd, q_width, n_layer);
    if (a->qkv_bias)
        add(list, SHOAL_WEIGHT_ATTENTION, false, q_width + 2 * kv_width, 1, n_layer);
    if (a->o_bias)
        add(list, SHOAL_WEIGHT_ATTENTION, false, n_embd, 1, n_layer);
    if (a->sinks)
        add(list, SHOAL_WEIGHT_ATTENTION, false, a->n_head, 1, n_layer);
    if (a->qk_norm == SHOAL_QK_NORM_HEAD)
        add(list, SHOAL_WEIGHT_NORMS, false, a->head_dim, 1, 2 * n_layer);
    if (a->qk_norm == SHOAL_QK_NORM_WHOLE)
        add(list, SHOAL_WEIGHT_NORMS, false, q_width + kv_width, 1, n_layer);
}

static void add_mla(shape_list *list, const shoal_spec *spec, int64_t n_layer)
{
    const shoal_attention_config *a = &spec->attention;
    int64_t n_embd = spec->n_embd, kv = a->kv_lora_rank;
    int64_t q_width = (int64_t)a->n_head * a->head_dim;
    if (a->q_lora_rank > 0) {
        add(list, SHOAL_WEIGHT_ATTENTION, true, a->q_lora_rank, n_embd, n_layer);
        add(list, SHOAL_WEIGHT_ATTENTION, true, q_width, a->q_lora_rank, n_layer);
        add(list, SHOAL_WEIGHT_NORMS, false, a->q_lora_rank, 1, n_layer);
    } else {
        add(list, SHOAL_WEIGHT_ATTENTION, true, q_width, n_embd, n_layer);
    }
    add(list, SHOAL_WEIGHT_ATTENTION, true, kv + a->rope.n_rot, n_embd, n_layer);
    add(list, SHOAL_WEIGHT_ATTENTION, true, (int64_t)a->n_head * (a->nope_dim + a->v_dim), kv,
        n_layer);
    if (n_layer > 0)
        list->shape[list->n - 1].absorbed = true;
    add(list, SHOAL_WEIGHT_ATTENTION, true, n_embd, (int64_t)a->n_head * a->v_dim, n_layer);
    add(list, SHOAL_WEIGHT_NORMS, false, kv, 1, n_layer);
}

static void add_mlp(shape_list *list, shoal_weight_class weight_class, int64_t n_ff, int64_t n_embd,
                    int64_t count)
{
    add(list, weight_class, true, n_ff, n_embd, 2 * count);
    add(list, weight_class, true, n_embd, n_ff, count);
}

static void add_moe(shape_list *list, const shoal_spec *spec, int64_t n_layer)
{
    int64_t n_embd = spec->n_embd, n_expert = spec->router.n_expert;
    add(list, SHOAL_WEIGHT_ROUTER, false, n_expert, n_embd, n_layer);
    if (spec->router_bias)
        add(list, SHOAL_WEIGHT_ROUTER, false, n_expert, 1, n_layer);
    if (spec->router_bias_for_select && n_layer > 0) {
        add(list, SHOAL_WEIGHT_ROUTER, false, n_expert, 1, n_layer);
        list->shape[list->n - 1].f32 = true;
    }
    add_mlp(list, SHOAL_WEIGHT_SHARED_EXPERTS, spec->n_ff_shared, n_embd, n_layer);
    if (spec->shared_gated)
        add(list, SHOAL_WEIGHT_SHARED_EXPERTS, false, 1, n_embd, n_layer);
    int32_t first = list->n;
    add_mlp(list, SHOAL_WEIGHT_EXPERTS, spec->n_ff_expert, n_embd, n_layer * n_expert);
    if (spec->expert_bias)
        add(list, SHOAL_WEIGHT_EXPERTS, false, 2 * (int64_t)spec->n_ff_expert + n_embd, 1,
            n_layer * n_expert);
    for (int32_t i = first; i < list->n; i++)
        list->shape[i].of_expert = true;
}

/* Attention, norms and MLPs of n_layer layers, n_moe of them MoE. */
static void add_layers(shape_list *list, const shoal_spec *spec, int64_t n_layer, int64_t n_moe)
{
    if (spec->attention.kind == SHOAL_ATTENTION_GQA)
        add_gqa(list, spec, n_layer);
    else
        add_mla(list, spec, n_layer);
    add(list, SHOAL_WEIGHT_NORMS, false, spec->n_embd, 1, 2 * n_layer);
    add_mlp(list, SHOAL_WEIGHT_DENSE_MLP, spec->n_ff_dense, spec->n_embd, n_layer - n_moe);
    add_moe(list, spec, n_moe);
}

int32_t shoal_spec_shapes(shoal_weight_shape *shape, const shoal_spec *spec)
{
    shape_list list = {.shape = shape};
    int64_t n_embd = spec->n_embd, n_mtp = spec->n_mtp_layer;
    add(&list, SHOAL_WEIGHT_EMBED, false, spec->n_vocab, n_embd, 1);
    if (!spec->tied_embeddings)
        add(&list, SHOAL_WEIGHT_LM_HEAD, false, spec->n_vocab, n_embd, 1);
    add(&list, SHOAL_WEIGHT_NORMS, false, n_embd, 1, 1);
    add_layers(&list, spec, spec->n_layer, spec->n_moe_layer);
    int32_t first = list.n;
    add_layers(&list, spec, n_mtp, n_mtp);
    add(&list, SHOAL_WEIGHT_MTP, false, n_embd, 2 * n_embd, n_mtp);
    add(&list, SHOAL_WEIGHT_MTP, false, n_embd, 1, 3 * n_mtp);
    for (int32_t i = first; i < list.n; i++)
        list.shape[i].weight_class = SHOAL_WEIGHT_MTP;
    return list.n;
}

shoal_parameter_count shoal_spec_count(const shoal_spec *spec)
{
    shoal_weight_shape shape[SHOAL_MAX_WEIGHT_SHAPE];
    int32_t n_shape = shoal_spec_shapes(shape, spec);
    int64_t of_class[SHOAL_WEIGHT_MTP + 1] = {0};
    for (int32_t i = 0; i < n_shape; i++)
        of_class[shape[i].weight_class] += shape[i].n_row * shape[i].n_col * shape[i].count;
    shoal_parameter_count c = {
        .embed = of_class[SHOAL_WEIGHT_EMBED],
        .lm_head = of_class[SHOAL_WEIGHT_LM_HEAD],
        .attention = of_class[SHOAL_WEIGHT_ATTENTION],
        .router = of_class[SHOAL_WEIGHT_ROUTER],
        .dense_mlp = of_class[SHOAL_WEIGHT_DENSE_MLP],
        .shared_experts = of_class[SHOAL_WEIGHT_SHARED_EXPERTS],
        .experts = of_class[SHOAL_WEIGHT_EXPERTS],
        .norms = of_class[SHOAL_WEIGHT_NORMS],
        .mtp = of_class[SHOAL_WEIGHT_MTP],
    };
    int64_t n_moe = spec->n_moe_layer, n_expert = spec->router.n_expert;
    c.one_expert = n_moe > 0 ? c.experts / (n_moe * n_expert) : 0;
    c.total = c.embed + c.lm_head + c.attention + c.norms + c.router + c.dense_mlp +
              c.shared_experts + c.experts;
    c.active_with_embedding = c.total - n_moe * (n_expert - spec->router.top_k) * c.one_expert;
    c.active = c.active_with_embedding - (spec->tied_embeddings ? 0 : c.embed);
    return c;
}
