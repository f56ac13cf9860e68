/* Mixtral: GQA, an optional sliding window on every layer, top-2 of a softmax router, normalised.
 */
#include "runtime/model/family/families.h"
#include "runtime/model/family/names.h"
#include "runtime/model/spec_read.h"

static shoal_status read_mixtral(shoal_spec *spec, const shoal_json *config, shoal_log *log)
{
    const shoal_spec_defaults sizes = {.n_layer = 32,
                                       .n_vocab = 32000,
                                       .n_embd = 4096,
                                       .n_context_max = 131072,
                                       .norm_eps = 1e-5F};
    const shoal_gqa_defaults gqa = {.n_head = 32, .n_kv_head = 8, .rope_theta = 1e6F};
    int32_t window;
    SHOAL_TRY(shoal__spec_read_common(spec, config, &sizes, log));
    SHOAL_TRY(shoal__spec_read_gqa(spec, config, &gqa, log));
    SHOAL_TRY(shoal__config_int(&window, config, "sliding_window", NULL, 0, 0, 1 << 24, log));
    for (int32_t layer = 0; layer < spec->n_layer; layer++)
        spec->attention.window[layer] = window;
    SHOAL_TRY(shoal__spec_read_router(spec, config, "num_local_experts", 8, 2, log));
    spec->router.score = SHOAL_ROUTER_SOFTMAX;
    spec->router.normalize = true;
    return shoal__spec_read_all_moe(spec, config, 14336, log);
}

const shoal_family shoal_family_mixtral = {
    .model_type = "mixtral",
    .read = read_mixtral,
    .tensor =
        {SHOAL_NAMES_MODEL,
         SHOAL_NAMES_GQA, [SHOAL_ROLE_ROUTER] = SHOAL_IN_LAYER("block_sparse_moe.gate.weight"),
         [SHOAL_ROLE_EXPERT_GATE] = SHOAL_IN_LAYER("block_sparse_moe.experts.%d.w1.weight"),
         [SHOAL_ROLE_EXPERT_UP] = SHOAL_IN_LAYER("block_sparse_moe.experts.%d.w3.weight"),
         [SHOAL_ROLE_EXPERT_DOWN] = SHOAL_IN_LAYER("block_sparse_moe.experts.%d.w2.weight")},
    .publishes_active_with_embedding = true,
};
