/* Qwen3-MoE: GQA with a norm on each head of q and k, half-rotated RoPE, softmax router, dense
 * layers by mlp_only_layers and decoder_sparse_step. */
#include "runtime/model/family/families.h"
#include "runtime/model/family/names.h"
#include "runtime/model/spec_read.h"

static shoal_status read_qwen3_moe(shoal_spec *spec, const shoal_json *config, shoal_log *log)
{
    const shoal_spec_defaults sizes = {.n_layer = 24,
                                       .n_vocab = 151936,
                                       .n_embd = 2048,
                                       .n_context_max = 32768,
                                       .norm_eps = 1e-6F};
    const shoal_gqa_defaults gqa = {.n_head = 32, .n_kv_head = 4, .rope_theta = 10000.0F};
    SHOAL_TRY(shoal__spec_read_common(spec, config, &sizes, log));
    SHOAL_TRY(shoal__spec_read_gqa(spec, config, &gqa, log));
    SHOAL_TRY(shoal__config_require_bool(config, "attention_bias", false, log));
    SHOAL_TRY(shoal__config_require_bool(config, "use_sliding_window", false, log));
    spec->attention.qk_norm = SHOAL_QK_NORM_HEAD;
    SHOAL_TRY(shoal__config_int(&spec->n_ff_dense, config, "intermediate_size", NULL, 6144, 1,
                                1 << 20, log));
    SHOAL_TRY(shoal__config_int(&spec->n_ff_expert, config, "moe_intermediate_size", NULL, 768, 1,
                                1 << 20, log));
    SHOAL_TRY(shoal__spec_read_router(spec, config, "num_experts", 128, 8, log));
    SHOAL_TRY(shoal__config_bool(&spec->router.normalize, config, "norm_topk_prob", false, log));
    spec->router.score = SHOAL_ROUTER_SOFTMAX;
    return shoal__spec_read_sparse_layers(spec, config, log);
}

const shoal_family shoal_family_qwen3_moe = {
    .model_type = "qwen3_moe",
    .read = read_qwen3_moe,
    .tensor = {SHOAL_NAMES_MODEL, SHOAL_NAMES_GQA, SHOAL_NAMES_QK_NORM, SHOAL_NAMES_DENSE,
               SHOAL_NAMES_EXPERTS},
    .publishes_active_with_embedding = true,
};
