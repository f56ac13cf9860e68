/* gpt-oss: GQA with biases, attention sinks and a sliding window on alternate layers; YaRN without
 * truncation; softmax over the chosen logits; experts with biases and the clamped activation, all
 * in one tensor whose gate and up rows alternate. */
#include "runtime/model/family/families.h"
#include "runtime/model/family/names.h"
#include "runtime/model/spec_read.h"

#include <string.h>

/* layer_types, or windows on the even layers. */
static shoal_status read_windows(shoal_spec *spec, const shoal_json *config, shoal_log *log)
{
    int32_t window;
    SHOAL_TRY(shoal__config_int(&window, config, "sliding_window", NULL, 128, 0, 1 << 24, log));
    const shoal_json *types = shoal__config_find(config, "layer_types", NULL);
    if (types != NULL && shoal_json_size(types) != (size_t)spec->n_layer)
        return shoal_fail(log, SHOAL_BAD_DATA,
                          "config.json: layer_types has %zu entries, wanted %d",
                          shoal_json_size(types), spec->n_layer);
    for (int32_t layer = 0; layer < spec->n_layer; layer++) {
        bool sliding = layer % 2 == 0;
        if (types != NULL) {
            const char *type = shoal_json_string(shoal_json_at(types, (size_t)layer), NULL);
            if (type == NULL ||
                (strcmp(type, "sliding_attention") != 0 && strcmp(type, "full_attention") != 0))
                return shoal_fail(log, SHOAL_BAD_DATA,
                                  "config.json: layer_types[%d] is \"%s\", wanted "
                                  "\"sliding_attention\" or \"full_attention\"",
                                  layer, type != NULL ? type : "(not a string)");
            sliding = strcmp(type, "sliding_attention") == 0;
        }
        spec->attention.window[layer] = sliding ? window : 0;
    }
    return SHOAL_OK;
}

static shoal_status read_gpt_oss(shoal_spec *spec, const shoal_json *config, shoal_log *log)
{
    const shoal_spec_defaults sizes = {.n_layer = 36,
                                       .n_vocab = 201088,
                                       .n_embd = 2880,
                                       .n_context_max = 131072,
                                       .norm_eps = 1e-5F};
    const shoal_gqa_defaults gqa = {
        .n_head = 64, .n_kv_head = 8, .head_dim = 64, .rope_theta = 150000.0F};
    SHOAL_TRY(shoal__spec_read_common(spec, config, &sizes, log));
    SHOAL_TRY(shoal__spec_read_gqa(spec, config, &gqa, log));
    SHOAL_TRY(shoal__config_require_bool(config, "attention_bias", true, log));
    spec->attention.qkv_bias = spec->attention.o_bias = spec->attention.sinks = true;
    SHOAL_TRY(read_windows(spec, config, log));
    SHOAL_TRY(shoal__spec_read_router(spec, config, "num_local_experts", 128, 4, log));
    spec->router.score = SHOAL_ROUTER_SOFTMAX_OF_TOPK;
    spec->router_bias = spec->expert_bias = true;
    spec->activation.kind = SHOAL_ACTIVATION_SWIGLU_CLAMPED;
    SHOAL_TRY(shoal__config_float(&spec->activation.alpha, config, "swiglu_alpha", 1.702F, 0.0, 1e3,
                                  log));
    SHOAL_TRY(
        shoal__config_float(&spec->activation.limit, config, "swiglu_limit", 7.0F, 0.0, 1e6, log));
    return shoal__spec_read_all_moe(spec, config, 2880, log);
}

#define GATE_UP      SHOAL_IN_LAYER("mlp.experts.gate_up_proj")
#define GATE_UP_BIAS SHOAL_IN_LAYER("mlp.experts.gate_up_proj_bias")

const shoal_family shoal_family_gpt_oss = {
    .model_type = "gpt_oss",
    .read = read_gpt_oss,
    .tensor =
        {SHOAL_NAMES_MODEL, SHOAL_NAMES_GQA,
         SHOAL_NAMES_QKV_BIAS, [SHOAL_ROLE_O_BIAS] = SHOAL_IN_LAYER("self_attn.o_proj.bias"),
         [SHOAL_ROLE_SINKS] = SHOAL_IN_LAYER("self_attn.sinks"),
         [SHOAL_ROLE_ROUTER] = SHOAL_IN_LAYER("mlp.router.weight"),
         [SHOAL_ROLE_ROUTER_BIAS] = SHOAL_IN_LAYER("mlp.router.bias"),
         [SHOAL_ROLE_EXPERT_GATE] = GATE_UP, [SHOAL_ROLE_EXPERT_UP] = GATE_UP,
         [SHOAL_ROLE_EXPERT_DOWN] = SHOAL_IN_LAYER("mlp.experts.down_proj"),
         [SHOAL_ROLE_EXPERT_GATE_BIAS] = GATE_UP_BIAS, [SHOAL_ROLE_EXPERT_UP_BIAS] = GATE_UP_BIAS,
         [SHOAL_ROLE_EXPERT_DOWN_BIAS] = SHOAL_IN_LAYER("mlp.experts.down_proj_bias")},
    .expert_layout = SHOAL_EXPERTS_FUSED_INTERLEAVED,
};
