/* DeepSeek-V2 and V2-Lite: MLA as V3; softmax router, greedy over all experts (Lite) or limited to
 * the groups with the largest single score; chosen weights are not normalised, whatever
 * norm_topk_prob says. */
#include "runtime/model/family/families.h"
#include "runtime/model/family/names.h"
#include "runtime/model/spec_read.h"

#include <string.h>

static shoal_status read_groups(shoal_spec *spec, const shoal_json *config, shoal_log *log)
{
    const shoal_json *value = shoal__config_find(config, "topk_method", NULL);
    const char *method = value != NULL ? shoal_json_string(value, NULL) : "greedy";
    if (method != NULL && strcmp(method, "group_limited_greedy") == 0)
        return shoal__spec_read_groups(spec, config, 1, 1, log);
    if (method != NULL && strcmp(method, "greedy") == 0)
        return SHOAL_OK; /* n_group may be given: it is not used */
    return shoal_fail(
        log, SHOAL_BAD_DATA,
        "config.json: topk_method is \"%s\"; supported are \"greedy\" and \"group_limited_greedy\"",
        method != NULL ? method : "(not a string)");
}

static shoal_status read_deepseek_v2(shoal_spec *spec, const shoal_json *config, shoal_log *log)
{
    const shoal_spec_defaults sizes = {
        .n_layer = 32, .n_vocab = 32000, .n_embd = 4096, .n_context_max = 2048, .norm_eps = 1e-6F};
    const shoal_deepseek_mlp_defaults mlp = {
        .n_ff_dense = 11008, .n_ff_expert = 1407, .n_shared = 2, .n_dense_layer = 0};
    shoal_router_config *r = &spec->router;
    SHOAL_TRY(shoal__spec_read_common(spec, config, &sizes, log));
    SHOAL_TRY(shoal__spec_read_mla(spec, config, 32, 1536, log));
    SHOAL_TRY(shoal__config_require(config, "scoring_func", "softmax", log));
    SHOAL_TRY(shoal__spec_read_router(spec, config, "n_routed_experts", 64, 6, log));
    SHOAL_TRY(shoal__config_float(&r->scale, config, "routed_scaling_factor", 1.0F, 0.0, 1e6, log));
    r->score = SHOAL_ROUTER_SOFTMAX;
    r->group_score = SHOAL_GROUP_MAX;
    r->masked_score = 0.0F;
    SHOAL_TRY(read_groups(spec, config, log));
    return shoal__spec_read_deepseek_mlp(spec, config, &mlp, log);
}

const shoal_family shoal_family_deepseek_v2 = {
    .model_type = "deepseek_v2",
    .read = read_deepseek_v2,
    .tensor = {SHOAL_NAMES_MODEL, SHOAL_NAMES_MLA, SHOAL_NAMES_DENSE, SHOAL_NAMES_EXPERTS,
               SHOAL_NAMES_SHARED},
};
