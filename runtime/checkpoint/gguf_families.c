#include "runtime/checkpoint/gguf_meta.h"

#include <math.h>
#include <string.h>

/* Layers without a router. */
static void set_dense_layers(const shoal__meta *b)
{
    shoal_json *dense = shoal_json_new_array();
    for (int64_t layer = 0; layer < b->n_layer; layer++)
        if (shoal__meta_layer_tensor(b, layer, "mlp.gate.weight") == NULL)
            shoal_json_append(dense, shoal_json_new_int(layer));
    shoal_json_set(b->config, "mlp_only_layers", dense);
    shoal__meta_set_int(b, "decoder_sparse_step", 1);
}

/* The inner size of what `rest` of the first layer that has it says, where the metadata does not.
 */
static void size_of_tensor(const shoal__meta *b, const char *hf, const char *rest)
{
    for (int64_t layer = 0; layer < b->n_layer && shoal_json_get(b->config, hf) == NULL; layer++) {
        const shoal_tensor_info *t = shoal__meta_layer_tensor(b, layer, rest);
        if (t != NULL && t->n_dim == 2)
            shoal__meta_set_int(b, hf, t->shape[0]);
    }
}

static shoal_status read_qwen(const shoal__meta *b, bool third)
{
    SHOAL_TRY(shoal__meta_need_int(b, "num_experts", "expert_count"));
    SHOAL_TRY(shoal__meta_copy_int(b, "moe_intermediate_size", "expert_feed_forward_length"));
    size_of_tensor(b, "moe_intermediate_size", "mlp.experts.0.gate_proj.weight");
    shoal__meta_set_bool(b, "norm_topk_prob", third); /* as released; GGUF has no key for it */
    shoal__meta_set_bool(b, "use_sliding_window", false);
    set_dense_layers(b);
    if (third)
        return shoal__meta_copy_int(b, "head_dim", "attention.key_length");
    SHOAL_TRY(shoal__meta_copy_int(b, "shared_expert_intermediate_size",
                                   "expert_shared_feed_forward_length"));
    size_of_tensor(b, "shared_expert_intermediate_size", "mlp.shared_expert.gate_proj.weight");
    return SHOAL_OK;
}

static shoal_status read_qwen3(const shoal__meta *b)
{
    return read_qwen(b, true);
}

static shoal_status read_qwen2(const shoal__meta *b)
{
    return read_qwen(b, false);
}

/* What DeepSeek and GLM have in common. */
static shoal_status read_shared_experts(const shoal__meta *b, int64_t *n_expert)
{
    bool found = false;
    SHOAL_TRY(shoal__meta_need_int(b, "n_routed_experts", "expert_count"));
    SHOAL_TRY(shoal__meta_int(n_expert, &found, b, "expert_count"));
    SHOAL_TRY(shoal__meta_copy_int(b, "moe_intermediate_size", "expert_feed_forward_length"));
    shoal__meta_set_int(b, "n_shared_experts", 0);
    SHOAL_TRY(shoal__meta_copy_int(b, "n_shared_experts", "expert_shared_count"));
    shoal__meta_set_int(b, "first_k_dense_replace", 0);
    SHOAL_TRY(shoal__meta_copy_int(b, "first_k_dense_replace", "leading_dense_block_count"));
    shoal_json_set(b->config, "routed_scaling_factor", shoal_json_new_number(1.0));
    SHOAL_TRY(shoal__meta_copy_number(b, "routed_scaling_factor", "expert_weights_scale"));
    int64_t norm = 0;
    SHOAL_TRY(shoal__meta_int(&norm, &found, b, "expert_weights_norm"));
    shoal__meta_set_bool(b, "norm_topk_prob", norm != 0);
    return SHOAL_OK;
}

static shoal_status read_mla_sizes(const shoal__meta *b)
{
    int64_t key = 0, value = 0, rope = 0, rank = 0;
    bool has_key = false, has_value = false, found = false;
    SHOAL_TRY(shoal__meta_int(&rope, &found, b, "rope.dimension_count"));
    SHOAL_TRY(shoal__meta_int(&key, &has_key, b, "attention.key_length_mla"));
    SHOAL_TRY(shoal__meta_int(&value, &has_value, b, "attention.value_length_mla"));
    if (!has_key) /* files that keep kv_b whole */
        SHOAL_TRY(shoal__meta_int(&key, &has_key, b, "attention.key_length"));
    if (!has_value)
        SHOAL_TRY(shoal__meta_int(&value, &has_value, b, "attention.value_length"));
    if (!has_key || !has_value || key <= rope || rope < 1)
        return shoal__meta_wrong(b, "attention.key_length_mla", "more than rope.dimension_count");
    shoal__meta_set_int(b, "qk_rope_head_dim", rope);
    shoal__meta_set_int(b, "qk_nope_head_dim", key - rope);
    shoal__meta_set_int(b, "v_head_dim", value);
    SHOAL_TRY(shoal__meta_int(&rank, &found, b, "attention.q_lora_rank"));
    if (found && rank > 0)
        shoal__meta_set_int(b, "q_lora_rank", rank);
    else
        shoal_json_set(b->config, "q_lora_rank",
                       shoal_json_new_number((double)INFINITY)); /* null */
    /* The format says 1 where it has the absorbed form in mind. */
    shoal_json_set(b->config, "num_key_value_heads",
                   shoal_json_copy(shoal_json_get(b->config, "num_attention_heads")));
    return shoal__meta_need_int(b, "kv_lora_rank", "attention.kv_lora_rank");
}

static shoal_status read_deepseek(const shoal__meta *b)
{
    int64_t n_expert = 0, gating = 0, n_group = 0, n_used = 0;
    bool found = false;
    SHOAL_TRY(read_shared_experts(b, &n_expert));
    SHOAL_TRY(read_mla_sizes(b));
    SHOAL_TRY(shoal__meta_int(&gating, &found, b, "expert_gating_func"));
    bool third = gating == 2;
    for (int64_t layer = 0; layer < b->n_layer && !third; layer++)
        third = shoal__meta_layer_tensor(b, layer, "mlp.gate.e_score_correction_bias") != NULL;

    SHOAL_TRY(shoal__meta_int(&n_group, &found, b, "expert_group_count"));
    SHOAL_TRY(shoal__meta_int(&n_used, &found, b, "expert_group_used_count"));
    if (n_group < 1 || n_used < 1) { /* older files leave them out: V3 and V2 as released */
        n_group = (third && n_expert == 256) || (!third && n_expert == 160) ? 8 : 1;
        n_used = n_group == 1 ? 1 : third ? 4 : 3;
    }
    shoal__meta_set_int(b, "n_group", n_group);
    shoal__meta_set_int(b, "topk_group", n_used);
    shoal__meta_set_text(b->config, "scoring_func", third ? "sigmoid" : "softmax");
    shoal__meta_set_text(b->config, "topk_method",
                         third         ? "noaux_tc"
                         : n_group > 1 ? "group_limited_greedy"
                                       : "greedy");
    shoal__meta_set_text(b->config, "model_type", third ? "deepseek_v3" : "deepseek_v2");
    return shoal__meta_rope_scaling(b, true, true);
}

static shoal_status read_glm4(const shoal__meta *b)
{
    int64_t n_expert = 0, n_rot = 0, head_dim = 0;
    bool found = false;
    SHOAL_TRY(read_shared_experts(b, &n_expert));
    SHOAL_TRY(shoal__meta_need_int(b, "head_dim", "attention.key_length"));
    SHOAL_TRY(shoal__meta_int(&head_dim, &found, b, "attention.key_length"));
    SHOAL_TRY(shoal__meta_int(&n_rot, &found, b, "rope.dimension_count"));
    if (n_rot < 1 || n_rot > head_dim)
        return shoal__meta_wrong(b, "rope.dimension_count", "1 to attention.key_length");
    shoal_json_set(b->config, "partial_rotary_factor",
                   shoal_json_new_number((double)n_rot / (double)head_dim));
    shoal__meta_set_bool(b, "use_qk_norm",
                         shoal__meta_layer_tensor(b, 0, "self_attn.q_norm.weight") != NULL);
    shoal__meta_set_int(b, "n_group", 1);
    shoal__meta_set_int(b, "topk_group", 1);
    SHOAL_TRY(shoal__meta_copy_int(b, "n_group", "expert_group_count"));
    return shoal__meta_copy_int(b, "topk_group", "expert_group_used_count");
}

static shoal_status read_mixtral(const shoal__meta *b)
{
    SHOAL_TRY(shoal__meta_copy_int(b, "num_local_experts", "expert_count"));
    if (shoal_json_int(shoal_json_get(b->config, "num_local_experts"), 0) < 1)
        shoal__meta_set_text(b->config, "model_type", "llama"); /* for the families to refuse */
    SHOAL_TRY(shoal__meta_copy_int(b, "head_dim", "rope.dimension_count"));
    return shoal__meta_copy_int(b, "sliding_window", "attention.sliding_window");
}

static shoal_status read_olmoe(const shoal__meta *b)
{
    SHOAL_TRY(shoal__meta_need_int(b, "num_experts", "expert_count"));
    shoal__meta_set_bool(b, "norm_topk_prob", false); /* as released */
    return shoal__meta_copy_number(b, "clip_qkv", "attention.clamp_kqv");
}

static shoal_status read_gpt_oss(const shoal__meta *b)
{
    SHOAL_TRY(shoal__meta_need_int(b, "num_local_experts", "expert_count"));
    SHOAL_TRY(shoal__meta_copy_int(b, "intermediate_size", "expert_feed_forward_length"));
    SHOAL_TRY(shoal__meta_need_int(b, "head_dim", "attention.key_length"));
    SHOAL_TRY(shoal__meta_need_int(b, "sliding_window", "attention.sliding_window"));
    shoal_json *types = shoal_json_new_array();
    for (int64_t layer = 0; layer < b->n_layer; layer++) {
        const char *type = layer % 2 == 0 ? "sliding_attention" : "full_attention";
        shoal_json_append(types, shoal_json_new_string(type, strlen(type)));
    }
    shoal_json_set(b->config, "layer_types", types);
    shoal_json_set(b->config, "swiglu_limit", shoal_json_new_number(7.0)); /* as released */
    return shoal__meta_rope_scaling(b, false, false);
}

static shoal_status read_granite(const shoal__meta *b)
{
    SHOAL_TRY(shoal__meta_need_int(b, "num_local_experts", "expert_count"));
    SHOAL_TRY(shoal__meta_copy_number(b, "embedding_multiplier", "embedding_scale"));
    SHOAL_TRY(shoal__meta_copy_number(b, "attention_multiplier", "attention.scale"));
    SHOAL_TRY(shoal__meta_copy_number(b, "residual_multiplier", "residual_scale"));
    SHOAL_TRY(shoal__meta_copy_number(b, "logits_scaling", "logit_scale"));
    return shoal__meta_copy_int(b, "shared_intermediate_size", "expert_shared_feed_forward_length");
}

static const shoal__meta_family families[] = {
    {"qwen3moe", "qwen3_moe", read_qwen3, false},
    {"qwen2moe", "qwen2_moe", read_qwen2, false},
    {"deepseek2", "deepseek_v3", read_deepseek, true},
    {"glm4moe", "glm4_moe", read_glm4, false},
    {"llama", "mixtral", read_mixtral, false},
    {"olmoe", "olmoe", read_olmoe, false},
    {"gpt-oss", "gpt_oss", read_gpt_oss, true},
    {"granitemoe", "granitemoe", read_granite, false},
};

const shoal__meta_family *shoal__meta_find_family(const char *architecture)
{
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (strcmp(families[i].gguf, architecture) == 0)
            return &families[i];
    return NULL;
}
