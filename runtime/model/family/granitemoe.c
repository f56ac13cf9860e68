/* Granite-MoE: GQA with its own score scale, four multipliers, softmax over the chosen logits,
 * experts in one tensor (gate rows, then up rows). */
#include "runtime/model/family/families.h"
#include "runtime/model/family/names.h"
#include "runtime/model/spec_read.h"

static shoal_status read_granitemoe(shoal_spec *spec, const shoal_json *config, shoal_log *log)
{
    const shoal_spec_defaults sizes = {
        .n_layer = 32, .n_vocab = 32000, .n_embd = 4096, .n_context_max = 2048, .norm_eps = 1e-6F};
    const shoal_gqa_defaults gqa = {.n_head = 32, .rope_theta = 10000.0F};
    SHOAL_TRY(shoal__spec_read_common(spec, config, &sizes, log));
    SHOAL_TRY(shoal__spec_read_gqa(spec, config, &gqa, log));
    SHOAL_TRY(shoal__config_require_bool(config, "attention_bias", false, log));
    SHOAL_TRY(shoal__config_float(&spec->attention.scale, config, "attention_multiplier", 1.0F, 0.0,
                                  1e6, log));
    SHOAL_TRY(shoal__config_float(&spec->embedding_multiplier, config, "embedding_multiplier", 1.0F,
                                  0.0, 1e6, log));
    SHOAL_TRY(shoal__config_float(&spec->residual_multiplier, config, "residual_multiplier", 1.0F,
                                  0.0, 1e6, log));
    SHOAL_TRY(
        shoal__config_float(&spec->logits_divisor, config, "logits_scaling", 1.0F, 1e-6, 1e6, log));
    SHOAL_TRY(shoal__spec_read_router(spec, config, "num_local_experts", 8, 2, log));
    spec->router.score = SHOAL_ROUTER_SOFTMAX_OF_TOPK;
    return shoal__spec_read_all_moe(spec, config, 11008, log);
}

#define INPUT SHOAL_IN_LAYER("block_sparse_moe.input_linear.weight")

const shoal_family shoal_family_granitemoe = {
    .model_type = "granitemoe",
    .read = read_granitemoe,
    .tensor = {SHOAL_NAMES_MODEL, SHOAL_NAMES_GQA,
               [SHOAL_ROLE_ROUTER] = SHOAL_IN_LAYER("block_sparse_moe.router.layer.weight"),
               [SHOAL_ROLE_EXPERT_GATE] = INPUT, [SHOAL_ROLE_EXPERT_UP] = INPUT,
               [SHOAL_ROLE_EXPERT_DOWN] = SHOAL_IN_LAYER("block_sparse_moe.output_linear.weight")},
    .expert_layout = SHOAL_EXPERTS_FUSED_HALVES,
};
