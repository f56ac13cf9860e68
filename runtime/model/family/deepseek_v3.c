/* DeepSeek-V3, R1, V3.1: MLA, interleaved RoPE with YaRN, sigmoid router with a selection bias and
 * group limit, one MLP of shared experts, leading dense layers, MTP layers at the end. */
#include "runtime/model/family/families.h"
#include "runtime/model/family/names.h"
#include "runtime/model/spec_read.h"

static shoal_status read_deepseek_v3(shoal_spec *spec, const shoal_json *config, shoal_log *log)
{
    const shoal_spec_defaults sizes = {
        .n_layer = 61, .n_vocab = 129280, .n_embd = 7168, .n_context_max = 4096, .norm_eps = 1e-6F};
    const shoal_deepseek_mlp_defaults mlp = {
        .n_ff_dense = 18432, .n_ff_expert = 2048, .n_shared = 1, .n_dense_layer = 3};
    shoal_router_config *r = &spec->router;
    SHOAL_TRY(shoal__spec_read_common(spec, config, &sizes, log));
    SHOAL_TRY(shoal__spec_read_mla(spec, config, 128, 1536, log));
    SHOAL_TRY(shoal__config_require(config, "scoring_func", "sigmoid", log));
    SHOAL_TRY(shoal__config_require(config, "topk_method", "noaux_tc", log));
    SHOAL_TRY(shoal__spec_read_router(spec, config, "n_routed_experts", 256, 8, log));
    SHOAL_TRY(shoal__spec_read_groups(spec, config, 8, 4, log));
    SHOAL_TRY(shoal__config_bool(&r->normalize, config, "norm_topk_prob", true, log));
    SHOAL_TRY(shoal__config_float(&r->scale, config, "routed_scaling_factor", 2.5F, 0.0, 1e6, log));
    r->score = SHOAL_ROUTER_SIGMOID;
    r->group_score = SHOAL_GROUP_TOP2_SUM;
    spec->router_bias_for_select = true;
    return shoal__spec_read_deepseek_mlp(spec, config, &mlp, log);
}

const shoal_family shoal_family_deepseek_v3 = {
    .model_type = "deepseek_v3",
    .read = read_deepseek_v3,
    .tensor = {SHOAL_NAMES_MODEL, SHOAL_NAMES_MLA, SHOAL_NAMES_DENSE, SHOAL_NAMES_EXPERTS,
               SHOAL_NAMES_SELECT_BIAS, SHOAL_NAMES_SHARED, SHOAL_NAMES_MTP},
};
