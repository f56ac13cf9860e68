/* Qwen3-MoE: GQA with a norm on each head of q and k, half-rotated RoPE, softmax router, dense
 * layers by mlp_only_layers and decoder_sparse_step. */
#include "runtime/model/family/families.h"
#include "runtime/model/spec_read.h"

#include <math.h>

static shoal_status read_attention(shoal_spec *spec, const shoal_json *config, shoal_log *log)
{
    shoal_attention_config *a = &spec->attention;
    a->kind = SHOAL_ATTENTION_GQA;
    a->qk_norm = SHOAL_QK_NORM_HEAD;
    SHOAL_TRY(shoal__config_require_bool(config, "attention_bias", false, log));
    SHOAL_TRY(shoal__config_require_bool(config, "use_sliding_window", false, log));
    SHOAL_TRY(shoal__config_int(&a->n_head, config, "num_attention_heads", NULL, 32, 1, 4096, log));
    SHOAL_TRY(shoal__config_int(&a->n_kv_head, config, "num_key_value_heads", NULL, 4, 1, a->n_head,
                                log));
    if (a->n_head % a->n_kv_head != 0)
        return shoal_fail(
            log, SHOAL_BAD_DATA,
            "config.json: num_attention_heads %d is no multiple of num_key_value_heads %d",
            a->n_head, a->n_kv_head);
    int32_t quotient = spec->n_embd / a->n_head;
    SHOAL_TRY(shoal__config_int(&a->head_dim, config, "head_dim", NULL, quotient, 2, 1 << 14, log));
    a->v_dim = a->head_dim;
    a->scale = (float)(1.0 / sqrt((double)a->head_dim));
    double mscale_squared; /* DeepSeek's own; this family keeps head_dim^-0.5 */
    return shoal__spec_read_rope(spec, config, SHOAL_ROPE_HALF, a->head_dim, 10000.0F,
                                 &mscale_squared, log);
}

static shoal_status read_layers(shoal_spec *spec, const shoal_json *config, shoal_log *log)
{
    int32_t sparse_step;
    SHOAL_TRY(
        shoal__config_int(&sparse_step, config, "decoder_sparse_step", NULL, 1, 1, 1 << 20, log));
    for (int32_t layer = 0; layer < spec->n_layer; layer++)
        spec->is_moe[layer] = (layer + 1) % sparse_step == 0;
    const shoal_json *dense = shoal__config_find(config, "mlp_only_layers", NULL);
    if (dense != NULL && !shoal_json_is_array(dense))
        return shoal_fail(log, SHOAL_BAD_DATA, "config.json: mlp_only_layers is not a list");
    for (size_t i = 0; i < shoal_json_size(dense); i++) {
        int64_t layer = shoal_json_int(shoal_json_at(dense, i), -1);
        if (layer < 0 || layer >= spec->n_layer)
            return shoal_fail(log, SHOAL_BAD_DATA,
                              "config.json: mlp_only_layers[%zu] is %lld, wanted a layer 0 to %d",
                              i, (long long)layer, spec->n_layer - 1);
        spec->is_moe[layer] = false;
    }
    return SHOAL_OK;
}

static shoal_status read_qwen3_moe(shoal_spec *spec, const shoal_json *config, shoal_log *log)
{
    const shoal_spec_defaults defaults = {.n_layer = 24,
                                          .n_vocab = 151936,
                                          .n_embd = 2048,
                                          .n_context_max = 32768,
                                          .norm_eps = 1e-6F,
                                          .tied_embeddings = false};
    SHOAL_TRY(shoal__spec_read_common(spec, config, &defaults, log));
    SHOAL_TRY(read_attention(spec, config, log));
    SHOAL_TRY(shoal__config_int(&spec->n_ff_dense, config, "intermediate_size", NULL, 6144, 1,
                                1 << 20, log));
    SHOAL_TRY(shoal__config_int(&spec->n_ff_expert, config, "moe_intermediate_size", NULL, 768, 1,
                                1 << 20, log));

    shoal_router_config *r = &spec->router;
    r->score = SHOAL_ROUTER_SOFTMAX;
    r->n_group = 1;
    r->topk_group = 1;
    r->scale = 1.0F;
    SHOAL_TRY(shoal__config_int(&r->n_expert, config, "num_experts", "num_local_experts", 128, 1,
                                SHOAL_MAX_EXPERT, log));
    SHOAL_TRY(shoal__config_int(&r->top_k, config, "num_experts_per_tok", NULL, 8, 1,
                                SHOAL_MAX_TOP_K, log));
    SHOAL_TRY(shoal__config_bool(&r->normalize, config, "norm_topk_prob", false, log));
    return read_layers(spec, config, log);
}

const shoal_family shoal_family_qwen3_moe = {
    .model_type = "qwen3_moe",
    .read = read_qwen3_moe,
    .tensor =
        {
            [SHOAL_ROLE_EMBED] = "model.embed_tokens.weight",
            [SHOAL_ROLE_FINAL_NORM] = "model.norm.weight",
            [SHOAL_ROLE_LM_HEAD] = "lm_head.weight",
            [SHOAL_ROLE_ATTN_NORM] = "model.layers.%d.input_layernorm.weight",
            [SHOAL_ROLE_MLP_NORM] = "model.layers.%d.post_attention_layernorm.weight",
            [SHOAL_ROLE_Q] = "model.layers.%d.self_attn.q_proj.weight",
            [SHOAL_ROLE_K] = "model.layers.%d.self_attn.k_proj.weight",
            [SHOAL_ROLE_V] = "model.layers.%d.self_attn.v_proj.weight",
            [SHOAL_ROLE_O] = "model.layers.%d.self_attn.o_proj.weight",
            [SHOAL_ROLE_Q_NORM] = "model.layers.%d.self_attn.q_norm.weight",
            [SHOAL_ROLE_K_NORM] = "model.layers.%d.self_attn.k_norm.weight",
            [SHOAL_ROLE_GATE] = "model.layers.%d.mlp.gate_proj.weight",
            [SHOAL_ROLE_UP] = "model.layers.%d.mlp.up_proj.weight",
            [SHOAL_ROLE_DOWN] = "model.layers.%d.mlp.down_proj.weight",
            [SHOAL_ROLE_ROUTER] = "model.layers.%d.mlp.gate.weight",
            [SHOAL_ROLE_EXPERT_GATE] = "model.layers.%d.mlp.experts.%d.gate_proj.weight",
            [SHOAL_ROLE_EXPERT_UP] = "model.layers.%d.mlp.experts.%d.up_proj.weight",
            [SHOAL_ROLE_EXPERT_DOWN] = "model.layers.%d.mlp.experts.%d.down_proj.weight",
        },
};
