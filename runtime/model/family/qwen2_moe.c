/* Qwen1.5-MoE, Qwen2-MoE: GQA with biases on q, k, v; softmax router; one shared expert times
 * sigmoid(g . x). */
#include "runtime/model/family/families.h"
#include "runtime/model/family/names.h"
#include "runtime/model/spec_read.h"

static shoal_status read_qwen2_moe(shoal_spec *spec, const shoal_json *config, shoal_log *log)
{
    const shoal_spec_defaults sizes = {.n_layer = 24,
                                       .n_vocab = 151936,
                                       .n_embd = 2048,
                                       .n_context_max = 32768,
                                       .norm_eps = 1e-6F};
    const shoal_gqa_defaults gqa = {.n_head = 16, .n_kv_head = 16, .rope_theta = 10000.0F};
    SHOAL_TRY(shoal__spec_read_common(spec, config, &sizes, log));
    SHOAL_TRY(shoal__spec_read_gqa(spec, config, &gqa, log));
    SHOAL_TRY(shoal__config_bool(&spec->attention.qkv_bias, config, "qkv_bias", true, log));
    SHOAL_TRY(shoal__config_require_bool(config, "use_sliding_window", false, log));
    SHOAL_TRY(shoal__config_int(&spec->n_ff_dense, config, "intermediate_size", NULL, 5632, 1,
                                1 << 20, log));
    SHOAL_TRY(shoal__config_int(&spec->n_ff_expert, config, "moe_intermediate_size", NULL, 1408, 1,
                                1 << 20, log));
    SHOAL_TRY(shoal__config_int(&spec->n_ff_shared, config, "shared_expert_intermediate_size", NULL,
                                5632, 1, 1 << 20, log));
    spec->shared_gated = true;
    SHOAL_TRY(shoal__spec_read_router(spec, config, "num_experts", 60, 4, log));
    SHOAL_TRY(shoal__config_bool(&spec->router.normalize, config, "norm_topk_prob", false, log));
    spec->router.score = SHOAL_ROUTER_SOFTMAX;
    return shoal__spec_read_sparse_layers(spec, config, log);
}

const shoal_family shoal_family_qwen2_moe = {
    .model_type = "qwen2_moe",
    .read = read_qwen2_moe,
    .tensor = {SHOAL_NAMES_MODEL, SHOAL_NAMES_GQA, SHOAL_NAMES_QKV_BIAS, SHOAL_NAMES_DENSE,
               SHOAL_NAMES_EXPERTS,
               [SHOAL_ROLE_SHARED_GATE] = SHOAL_IN_LAYER("mlp.shared_expert.gate_proj.weight"),
               [SHOAL_ROLE_SHARED_UP] = SHOAL_IN_LAYER("mlp.shared_expert.up_proj.weight"),
               [SHOAL_ROLE_SHARED_DOWN] = SHOAL_IN_LAYER("mlp.shared_expert.down_proj.weight"),
               [SHOAL_ROLE_SHARED_EXPERT_GATE] = SHOAL_IN_LAYER("mlp.shared_expert_gate.weight")},
    .publishes_active_with_embedding = true,
};
