/* OLMoE: attention with a norm over the whole projected q and k, softmax router, weights not
 * normalised. */
#include "runtime/model/family/families.h"
#include "runtime/model/family/names.h"
#include "runtime/model/spec_read.h"

static shoal_status read_olmoe(shoal_spec *spec, const shoal_json *config, shoal_log *log)
{
    const shoal_spec_defaults sizes = {
        .n_layer = 16, .n_vocab = 50304, .n_embd = 2048, .n_context_max = 4096, .norm_eps = 1e-5F};
    const shoal_gqa_defaults gqa = {.n_head = 16, .rope_theta = 10000.0F};
    SHOAL_TRY(shoal__spec_read_common(spec, config, &sizes, log));
    SHOAL_TRY(shoal__spec_read_gqa(spec, config, &gqa, log));
    SHOAL_TRY(shoal__config_require_bool(config, "attention_bias", false, log));
    if (shoal__config_find(config, "clip_qkv", NULL) != NULL)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "config.json: clip_qkv is set; this version supports null only");
    spec->attention.qk_norm = SHOAL_QK_NORM_WHOLE;
    SHOAL_TRY(shoal__spec_read_router(spec, config, "num_experts", 64, 8, log));
    SHOAL_TRY(shoal__config_bool(&spec->router.normalize, config, "norm_topk_prob", false, log));
    spec->router.score = SHOAL_ROUTER_SOFTMAX;
    return shoal__spec_read_all_moe(spec, config, 2048, log);
}

const shoal_family shoal_family_olmoe = {
    .model_type = "olmoe",
    .read = read_olmoe,
    .tensor = {SHOAL_NAMES_MODEL, SHOAL_NAMES_GQA, SHOAL_NAMES_QK_NORM, SHOAL_NAMES_EXPERTS},
    .publishes_active_with_embedding = true,
};
