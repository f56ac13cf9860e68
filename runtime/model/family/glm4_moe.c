/* GLM-4.5, 4.6, 4.7 and Air: the router and experts of DeepSeek-V3 with GQA: biases on q, k, v, a
 * norm on each head of q and k where use_qk_norm says so, the first part of each head rotated; MTP
 * layers at the end. */
#include "runtime/model/family/families.h"
#include "runtime/model/family/names.h"
#include "runtime/model/spec_read.h"

static shoal_status read_glm4_moe(shoal_spec *spec, const shoal_json *config, shoal_log *log)
{
    const shoal_spec_defaults sizes = {.n_layer = 46,
                                       .n_vocab = 151552,
                                       .n_embd = 4096,
                                       .n_context_max = 131072,
                                       .norm_eps = 1e-5F};
    const shoal_gqa_defaults gqa = {.n_head = 96,
                                    .n_kv_head = 8,
                                    .head_dim = 128,
                                    .rope_theta = 10000.0F,
                                    .partial_rotary = 0.5F};
    const shoal_deepseek_mlp_defaults mlp = {
        .n_ff_dense = 10944, .n_ff_expert = 1408, .n_shared = 1, .n_dense_layer = 1};
    shoal_router_config *r = &spec->router;
    bool qk_norm;
    SHOAL_TRY(shoal__spec_read_common(spec, config, &sizes, log));
    SHOAL_TRY(shoal__spec_read_gqa(spec, config, &gqa, log));
    SHOAL_TRY(shoal__config_bool(&spec->attention.qkv_bias, config, "attention_bias", false, log));
    SHOAL_TRY(shoal__config_bool(&qk_norm, config, "use_qk_norm", false, log));
    spec->attention.qk_norm = qk_norm ? SHOAL_QK_NORM_HEAD : SHOAL_QK_NORM_NONE;
    SHOAL_TRY(shoal__spec_read_router(spec, config, "n_routed_experts", 128, 8, log));
    SHOAL_TRY(shoal__spec_read_groups(spec, config, 1, 1, log));
    SHOAL_TRY(shoal__config_bool(&r->normalize, config, "norm_topk_prob", true, log));
    SHOAL_TRY(shoal__config_float(&r->scale, config, "routed_scaling_factor", 1.0F, 0.0, 1e6, log));
    r->score = SHOAL_ROUTER_SIGMOID;
    r->group_score = SHOAL_GROUP_TOP2_SUM;
    spec->router_bias_for_select = true;
    return shoal__spec_read_deepseek_mlp(spec, config, &mlp, log);
}

const shoal_family shoal_family_glm4_moe = {
    .model_type = "glm4_moe",
    .read = read_glm4_moe,
    .tensor = {SHOAL_NAMES_MODEL, SHOAL_NAMES_GQA, SHOAL_NAMES_QKV_BIAS, SHOAL_NAMES_QK_NORM,
               SHOAL_NAMES_DENSE, SHOAL_NAMES_EXPERTS, SHOAL_NAMES_SELECT_BIAS, SHOAL_NAMES_SHARED,
               SHOAL_NAMES_MTP},
};
