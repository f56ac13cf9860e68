#include "runtime/checkpoint/gguf_config.h"

#include "runtime/checkpoint/gguf_names.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct builder {
    shoal_json *config;
    const shoal__gguf *metadata;
    const shoal_checkpoint *checkpoint;
    const char *path;
    shoal_log *log;
    int64_t n_layer; /* without prediction layers */
} builder;

/* -- values -- */

/* Numbers are f32 in GGUF; the shortest decimal that gives the same f32 is what config.json had. */
static double shortest(double x)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtof(text, NULL) == (float)x)
            return strtod(text, NULL);
    }
    return x;
}

static shoal_status wrong_value(const builder *b, const char *key, const char *wanted)
{
    char arch[64];
    shoal__gguf_architecture(arch, sizeof arch, b->metadata);
    return shoal_fail(b->log, SHOAL_BAD_DATA, "%s: key %s.%s is missing or wrong, wanted %s",
                      b->path, arch, key, wanted);
}

/* An integer, or an array (one for each layer) of equal ones. false: there is no such key. */
static shoal_status read_int(int64_t *out, bool *found, const builder *b, const char *key)
{
    const shoal__gguf_value *value = shoal__gguf_arch_find(b->metadata, key);
    *found = value != NULL;
    if (value == NULL)
        return SHOAL_OK;
    int64_t first = 0;
    if (!shoal__gguf_int_at(&first, value, 0))
        return wrong_value(b, key, "an integer");
    for (uint64_t i = 1; i < value->n; i++) {
        int64_t other = 0;
        if (!shoal__gguf_int_at(&other, value, i) || other != first)
            return wrong_value(b, key, "the same integer for all layers");
    }
    *out = first;
    return SHOAL_OK;
}

/* key of the metadata as hf of the config; left out where it is absent. */
static shoal_status copy_int(const builder *b, const char *hf, const char *key)
{
    int64_t value = 0;
    bool found = false;
    SHOAL_TRY(read_int(&value, &found, b, key));
    if (found)
        shoal_json_set(b->config, hf, shoal_json_new_int(value));
    return SHOAL_OK;
}

static shoal_status need_int(const builder *b, const char *hf, const char *key)
{
    SHOAL_TRY(copy_int(b, hf, key));
    if (shoal_json_get(b->config, hf) == NULL)
        return wrong_value(b, key, "an integer");
    return SHOAL_OK;
}

static shoal_status read_number(double *out, bool *found, const builder *b, const char *key)
{
    const shoal__gguf_value *value = shoal__gguf_arch_find(b->metadata, key);
    *found = value != NULL;
    if (value != NULL && !shoal__gguf_number_at(out, value, 0))
        return wrong_value(b, key, "a finite number");
    if (value != NULL)
        *out = shortest(*out);
    return SHOAL_OK;
}

static shoal_status copy_number(const builder *b, const char *hf, const char *key)
{
    double value = 0;
    bool found = false;
    SHOAL_TRY(read_number(&value, &found, b, key));
    if (found)
        shoal_json_set(b->config, hf, shoal_json_new_number(value));
    return SHOAL_OK;
}

static void set_int(const builder *b, const char *hf, int64_t value)
{
    shoal_json_set(b->config, hf, shoal_json_new_int(value));
}

static void set_bool(const builder *b, const char *hf, bool value)
{
    shoal_json_set(b->config, hf, shoal_json_new_bool(value));
}

static void set_text(shoal_json *object, const char *hf, const char *text)
{
    shoal_json_set(object, hf, shoal_json_new_string(text, strlen(text)));
}

static const shoal_tensor_info *layer_tensor(const builder *b, int64_t layer, const char *rest)
{
    char name[128];
    snprintf(name, sizeof name, "model.layers.%" PRId64 ".%s", layer, rest);
    return shoal_checkpoint_find(b->checkpoint, name);
}

/* -- what all have -- */

static shoal_status read_common(builder *b)
{
    SHOAL_TRY(need_int(b, "hidden_size", "embedding_length"));
    SHOAL_TRY(need_int(b, "num_hidden_layers", "block_count"));
    SHOAL_TRY(need_int(b, "num_attention_heads", "attention.head_count"));
    SHOAL_TRY(copy_int(b, "num_key_value_heads", "attention.head_count_kv"));
    SHOAL_TRY(copy_int(b, "intermediate_size", "feed_forward_length"));
    SHOAL_TRY(copy_int(b, "max_position_embeddings", "context_length"));
    SHOAL_TRY(copy_number(b, "rms_norm_eps", "attention.layer_norm_rms_epsilon"));
    SHOAL_TRY(copy_number(b, "rope_theta", "rope.freq_base"));
    SHOAL_TRY(copy_int(b, "num_experts_per_tok", "expert_used_count"));

    int64_t n_predict = 0;
    bool found = false;
    SHOAL_TRY(read_int(&n_predict, &found, b, "nextn_predict_layers"));
    b->n_layer = shoal_json_int(shoal_json_get(b->config, "num_hidden_layers"), 0);
    if (n_predict < 0 || n_predict >= b->n_layer)
        n_predict = n_predict == 0 ? 0 : -1;
    if (n_predict < 0 || b->n_layer < 1 || b->n_layer > 1 << 16)
        return wrong_value(b, "block_count", "1 to 65536, more than nextn_predict_layers");
    b->n_layer -= n_predict;
    set_int(b, "num_hidden_layers", b->n_layer);
    set_int(b, "num_nextn_predict_layers", n_predict);

    const shoal_tensor_info *embed =
        shoal_checkpoint_find(b->checkpoint, "model.embed_tokens.weight");
    if (embed != NULL)
        set_int(b, "vocab_size", embed->shape[0]);
    else
        SHOAL_TRY(need_int(b, "vocab_size", "vocab_size"));
    set_bool(b, "tie_word_embeddings",
             embed != NULL && shoal_checkpoint_find(b->checkpoint, "lm_head.weight") == NULL);
    set_bool(b, "attention_bias", layer_tensor(b, 0, "self_attn.q_proj.bias") != NULL);
    return SHOAL_OK;
}

/* rope_scaling; mscale: DeepSeek's, from the multiplier of the logarithm. */
static shoal_status read_rope_scaling(const builder *b, bool mscale, bool truncate)
{
    size_t n = 0;
    const char *type =
        shoal__gguf_string(shoal__gguf_arch_find(b->metadata, "rope.scaling.type"), &n);
    if (type == NULL || (n == 4 && memcmp(type, "none", 4) == 0))
        return SHOAL_OK;
    static const struct {
        const char *hf, *key;
        double otherwise; /* 0: left out */
    } numbers[] = {
        {"factor", "rope.scaling.factor", 0},
        {"original_max_position_embeddings", "rope.scaling.original_context_length", 0},
        {"beta_fast", "rope.scaling.yarn_beta_fast", 32},
        {"beta_slow", "rope.scaling.yarn_beta_slow", 1},
    };
    shoal_json *scaling = shoal_json_new_object();
    shoal_json_set(b->config, "rope_scaling", scaling);
    shoal_json_set(scaling, "type", shoal_json_new_string(type, n));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        double value = 0;
        bool found = false;
        SHOAL_TRY(read_number(&value, &found, b, numbers[i].key));
        if (!found)
            value = numbers[i].otherwise;
        bool whole = value >= 0 && value < 1e15 && value == (double)(int64_t)value;
        if (value != 0)
            shoal_json_set(scaling, numbers[i].hf,
                           whole ? shoal_json_new_int((int64_t)value)
                                 : shoal_json_new_number(value));
    }
    if (!truncate)
        shoal_json_set(scaling, "truncate", shoal_json_new_bool(false));
    double multiplier = 0;
    bool found = false;
    SHOAL_TRY(read_number(&multiplier, &found, b, "rope.scaling.yarn_log_multiplier"));
    if (mscale && found && multiplier != 0) {
        double all = shortest((double)(float)(multiplier * 10)); /* it is 0.1 * mscale_all_dim */
        shoal_json_set(scaling, "mscale", shoal_json_new_number(all));
        shoal_json_set(scaling, "mscale_all_dim", shoal_json_new_number(all));
    }
    double factor = 1;
    SHOAL_TRY(read_number(&factor, &found, b, "rope.scaling.attn_factor"));
    if (found && factor != 1)
        return wrong_value(b, "rope.scaling.attn_factor", "1: no other is supported");
    return SHOAL_OK;
}

/* Layers without a router. */
static void set_dense_layers(const builder *b)
{
    shoal_json *dense = shoal_json_new_array();
    for (int64_t layer = 0; layer < b->n_layer; layer++)
        if (layer_tensor(b, layer, "mlp.gate.weight") == NULL)
            shoal_json_append(dense, shoal_json_new_int(layer));
    shoal_json_set(b->config, "mlp_only_layers", dense);
    set_int(b, "decoder_sparse_step", 1);
}

/* The inner size of what `rest` of the first layer that has it says, where the metadata does not.
 */
static void size_of_tensor(const builder *b, const char *hf, const char *rest)
{
    for (int64_t layer = 0; layer < b->n_layer && shoal_json_get(b->config, hf) == NULL; layer++) {
        const shoal_tensor_info *t = layer_tensor(b, layer, rest);
        if (t != NULL && t->n_dim == 2)
            set_int(b, hf, t->shape[0]);
    }
}

/* -- families -- */

static shoal_status read_qwen(const builder *b, bool third)
{
    SHOAL_TRY(need_int(b, "num_experts", "expert_count"));
    SHOAL_TRY(copy_int(b, "moe_intermediate_size", "expert_feed_forward_length"));
    size_of_tensor(b, "moe_intermediate_size", "mlp.experts.0.gate_proj.weight");
    set_bool(b, "norm_topk_prob", third); /* as released; GGUF has no key for it */
    set_bool(b, "use_sliding_window", false);
    set_dense_layers(b);
    if (third)
        return copy_int(b, "head_dim", "attention.key_length");
    SHOAL_TRY(copy_int(b, "shared_expert_intermediate_size", "expert_shared_feed_forward_length"));
    size_of_tensor(b, "shared_expert_intermediate_size", "mlp.shared_expert.gate_proj.weight");
    return SHOAL_OK;
}

static shoal_status read_qwen3(const builder *b)
{
    return read_qwen(b, true);
}

static shoal_status read_qwen2(const builder *b)
{
    return read_qwen(b, false);
}

/* What DeepSeek and GLM have in common. */
static shoal_status read_shared_experts(const builder *b, int64_t *n_expert)
{
    bool found = false;
    SHOAL_TRY(need_int(b, "n_routed_experts", "expert_count"));
    SHOAL_TRY(read_int(n_expert, &found, b, "expert_count"));
    SHOAL_TRY(copy_int(b, "moe_intermediate_size", "expert_feed_forward_length"));
    set_int(b, "n_shared_experts", 0);
    SHOAL_TRY(copy_int(b, "n_shared_experts", "expert_shared_count"));
    set_int(b, "first_k_dense_replace", 0);
    SHOAL_TRY(copy_int(b, "first_k_dense_replace", "leading_dense_block_count"));
    shoal_json_set(b->config, "routed_scaling_factor", shoal_json_new_number(1.0));
    SHOAL_TRY(copy_number(b, "routed_scaling_factor", "expert_weights_scale"));
    int64_t norm = 0;
    SHOAL_TRY(read_int(&norm, &found, b, "expert_weights_norm"));
    set_bool(b, "norm_topk_prob", norm != 0);
    return SHOAL_OK;
}

static shoal_status read_mla_sizes(const builder *b)
{
    int64_t key = 0, value = 0, rope = 0, rank = 0;
    bool has_key = false, has_value = false, found = false;
    SHOAL_TRY(read_int(&rope, &found, b, "rope.dimension_count"));
    SHOAL_TRY(read_int(&key, &has_key, b, "attention.key_length_mla"));
    SHOAL_TRY(read_int(&value, &has_value, b, "attention.value_length_mla"));
    if (!has_key) /* files that keep kv_b whole */
        SHOAL_TRY(read_int(&key, &has_key, b, "attention.key_length"));
    if (!has_value)
        SHOAL_TRY(read_int(&value, &has_value, b, "attention.value_length"));
    if (!has_key || !has_value || key <= rope || rope < 1)
        return wrong_value(b, "attention.key_length_mla", "more than rope.dimension_count");
    set_int(b, "qk_rope_head_dim", rope);
    set_int(b, "qk_nope_head_dim", key - rope);
    set_int(b, "v_head_dim", value);
    SHOAL_TRY(read_int(&rank, &found, b, "attention.q_lora_rank"));
    if (found && rank > 0)
        set_int(b, "q_lora_rank", rank);
    else
        shoal_json_set(b->config, "q_lora_rank",
                       shoal_json_new_number((double)INFINITY)); /* null */
    /* The format says 1 where it has the absorbed form in mind. */
    shoal_json_set(b->config, "num_key_value_heads",
                   shoal_json_copy(shoal_json_get(b->config, "num_attention_heads")));
    return need_int(b, "kv_lora_rank", "attention.kv_lora_rank");
}

static shoal_status read_deepseek(const builder *b)
{
    int64_t n_expert = 0, gating = 0, n_group = 0, n_used = 0;
    bool found = false;
    SHOAL_TRY(read_shared_experts(b, &n_expert));
    SHOAL_TRY(read_mla_sizes(b));
    SHOAL_TRY(read_int(&gating, &found, b, "expert_gating_func"));
    bool third = gating == 2;
    for (int64_t layer = 0; layer < b->n_layer && !third; layer++)
        third = layer_tensor(b, layer, "mlp.gate.e_score_correction_bias") != NULL;

    SHOAL_TRY(read_int(&n_group, &found, b, "expert_group_count"));
    SHOAL_TRY(read_int(&n_used, &found, b, "expert_group_used_count"));
    if (n_group < 1 || n_used < 1) { /* older files leave them out: V3 and V2 as released */
        n_group = (third && n_expert == 256) || (!third && n_expert == 160) ? 8 : 1;
        n_used = n_group == 1 ? 1 : third ? 4 : 3;
    }
    set_int(b, "n_group", n_group);
    set_int(b, "topk_group", n_used);
    set_text(b->config, "scoring_func", third ? "sigmoid" : "softmax");
    set_text(b->config, "topk_method",
             third         ? "noaux_tc"
             : n_group > 1 ? "group_limited_greedy"
                           : "greedy");
    set_text(b->config, "model_type", third ? "deepseek_v3" : "deepseek_v2");
    return read_rope_scaling(b, true, true);
}

static shoal_status read_glm4(const builder *b)
{
    int64_t n_expert = 0, n_rot = 0, head_dim = 0;
    bool found = false;
    SHOAL_TRY(read_shared_experts(b, &n_expert));
    SHOAL_TRY(need_int(b, "head_dim", "attention.key_length"));
    SHOAL_TRY(read_int(&head_dim, &found, b, "attention.key_length"));
    SHOAL_TRY(read_int(&n_rot, &found, b, "rope.dimension_count"));
    if (n_rot < 1 || n_rot > head_dim)
        return wrong_value(b, "rope.dimension_count", "1 to attention.key_length");
    shoal_json_set(b->config, "partial_rotary_factor",
                   shoal_json_new_number((double)n_rot / (double)head_dim));
    set_bool(b, "use_qk_norm", layer_tensor(b, 0, "self_attn.q_norm.weight") != NULL);
    set_int(b, "n_group", 1);
    set_int(b, "topk_group", 1);
    SHOAL_TRY(copy_int(b, "n_group", "expert_group_count"));
    return copy_int(b, "topk_group", "expert_group_used_count");
}

static shoal_status read_mixtral(const builder *b)
{
    SHOAL_TRY(copy_int(b, "num_local_experts", "expert_count"));
    if (shoal_json_int(shoal_json_get(b->config, "num_local_experts"), 0) < 1)
        set_text(b->config, "model_type", "llama"); /* for the families to refuse */
    SHOAL_TRY(copy_int(b, "head_dim", "rope.dimension_count"));
    return copy_int(b, "sliding_window", "attention.sliding_window");
}

static shoal_status read_olmoe(const builder *b)
{
    SHOAL_TRY(need_int(b, "num_experts", "expert_count"));
    set_bool(b, "norm_topk_prob", false); /* as released */
    return copy_number(b, "clip_qkv", "attention.clamp_kqv");
}

static shoal_status read_gpt_oss(const builder *b)
{
    SHOAL_TRY(need_int(b, "num_local_experts", "expert_count"));
    SHOAL_TRY(copy_int(b, "intermediate_size", "expert_feed_forward_length"));
    SHOAL_TRY(need_int(b, "head_dim", "attention.key_length"));
    SHOAL_TRY(need_int(b, "sliding_window", "attention.sliding_window"));
    shoal_json *types = shoal_json_new_array();
    for (int64_t layer = 0; layer < b->n_layer; layer++) {
        const char *type = layer % 2 == 0 ? "sliding_attention" : "full_attention";
        shoal_json_append(types, shoal_json_new_string(type, strlen(type)));
    }
    shoal_json_set(b->config, "layer_types", types);
    shoal_json_set(b->config, "swiglu_limit", shoal_json_new_number(7.0)); /* as released */
    return read_rope_scaling(b, false, false);
}

static shoal_status read_granite(const builder *b)
{
    SHOAL_TRY(need_int(b, "num_local_experts", "expert_count"));
    SHOAL_TRY(copy_number(b, "embedding_multiplier", "embedding_scale"));
    SHOAL_TRY(copy_number(b, "attention_multiplier", "attention.scale"));
    SHOAL_TRY(copy_number(b, "residual_multiplier", "residual_scale"));
    SHOAL_TRY(copy_number(b, "logits_scaling", "logit_scale"));
    return copy_int(b, "shared_intermediate_size", "expert_shared_feed_forward_length");
}

static const struct {
    const char *gguf, *model_type;
    shoal_status (*read)(const builder *b);
    bool own_rope_scaling; /* read calls read_rope_scaling */
} families[] = {
    {"qwen3moe", "qwen3_moe", read_qwen3, false},
    {"qwen2moe", "qwen2_moe", read_qwen2, false},
    {"deepseek2", "deepseek_v3", read_deepseek, true},
    {"glm4moe", "glm4_moe", read_glm4, false},
    {"llama", "mixtral", read_mixtral, false},
    {"olmoe", "olmoe", read_olmoe, false},
    {"gpt-oss", "gpt_oss", read_gpt_oss, true},
    {"granitemoe", "granitemoe", read_granite, false},
};

/* -- tokens -- */

/* Token ids of the config, where the metadata has them. */
static bool token_id(int64_t *id, const builder *b, const char *key)
{
    int64_t n_vocab = shoal_json_int(shoal_json_get(b->config, "vocab_size"), 0);
    return shoal__gguf_int_at(id, shoal__gguf_find(b->metadata, key), 0) && *id >= 0 &&
           *id < n_vocab;
}

/* The text of a token is `text`. */
static bool token_is(const builder *b, int64_t id, const char *text)
{
    const shoal__gguf_value *tokens = shoal__gguf_find(b->metadata, "tokenizer.ggml.tokens");
    if (tokens == NULL || !tokens->is_array || tokens->type != SHOAL__GGUF_STRING ||
        (uint64_t)id >= tokens->n)
        return false;
    const unsigned char *at = tokens->at;
    const char *found = NULL;
    size_t n = 0;
    for (int64_t i = 0; i <= id; i++)
        found = shoal__gguf_next_string(&at, &n);
    return n == strlen(text) && memcmp(found, text, n) == 0;
}

static void read_tokens(const builder *b, shoal_json *generation)
{
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    int64_t id = 0, seen[3];
    int n_seen = 0;
    if (token_id(&id, b, "tokenizer.ggml.bos_token_id"))
        set_int(b, "bos_token_id", id);
    shoal_json *list = shoal_json_new_array();
    for (int i = 0; i < 3; i++) {
        bool again = false;
        /* harmony ends every message with <|end|>, also those before the answer */
        if (!token_id(&id, b, ends[i]) || token_is(b, id, "<|end|>"))
            continue;
        for (int k = 0; k < n_seen; k++)
            again |= seen[k] == id;
        if (again)
            continue;
        if (i == 0)
            set_int(b, "eos_token_id", id);
        shoal_json_append(list, shoal_json_new_int(id));
        seen[n_seen++] = id;
    }
    if (n_seen > 0)
        shoal_json_set(generation, "eos_token_id", list);
    else
        shoal_json_close(list);
}

static shoal_status read_config(builder *b, shoal_json *generation)
{
    char arch[64];
    shoal__gguf_architecture(arch, sizeof arch, b->metadata);
    if (arch[0] == '\0')
        return shoal_fail(b->log, SHOAL_BAD_DATA,
                          "%s: key general.architecture is missing or no text, wanted the "
                          "architecture's name",
                          b->path);
    set_text(b->config, "model_type", arch);
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        if (strcmp(families[i].gguf, arch) != 0)
            continue;
        set_text(b->config, "model_type", families[i].model_type);
        SHOAL_TRY(read_common(b));
        SHOAL_TRY(families[i].read(b));
        if (!families[i].own_rope_scaling)
            SHOAL_TRY(read_rope_scaling(b, false, true));
    }
    read_tokens(b, generation);
    return SHOAL_OK;
}

shoal_status shoal__gguf_config(shoal_json **config, shoal_json **generation_config,
                                const shoal__gguf *metadata, const shoal_checkpoint *checkpoint,
                                const char *path, shoal_log *log)
{
    builder b = {.config = shoal_json_new_object(),
                 .metadata = metadata,
                 .checkpoint = checkpoint,
                 .path = path,
                 .log = log};
    shoal_json *generation = shoal_json_new_object();
    shoal_status status = read_config(&b, generation);
    if (status != SHOAL_OK) {
        shoal_json_close(b.config);
        shoal_json_close(generation);
        return status;
    }
    *config = b.config;
    *generation_config = generation;
    return SHOAL_OK;
}
