/* DeepSeek-V3, R1, V3.1: MLA, interleaved RoPE with YaRN, sigmoid router with a selection bias and
 * group limit, one MLP of shared experts, leading dense layers, MTP layers at the end (recognised,
 * not run). */
#include "runtime/model/family/families.h"
#include "runtime/model/spec_read.h"

#include <math.h>

static shoal_status read_attention(shoal_spec *spec, const shoal_json *config, shoal_log *log)
{
    shoal_attention_config *a = &spec->attention;
    a->kind = SHOAL_ATTENTION_MLA;
    SHOAL_TRY(shoal__config_require_bool(config, "attention_bias", false, log));
    SHOAL_TRY(
        shoal__config_int(&a->n_head, config, "num_attention_heads", NULL, 128, 1, 4096, log));
    SHOAL_TRY(
        shoal__config_int(&a->kv_lora_rank, config, "kv_lora_rank", NULL, 512, 1, 1 << 16, log));
    SHOAL_TRY(
        shoal__config_int(&a->nope_dim, config, "qk_nope_head_dim", NULL, 128, 1, 1 << 14, log));
    SHOAL_TRY(shoal__config_int(&a->v_dim, config, "v_head_dim", NULL, 128, 1, 1 << 14, log));
    /* Absent: the class default. An explicit null: no q_lora (Lite-like checkpoints). */
    const shoal_json *q_lora = shoal_json_get(config, "q_lora_rank");
    int32_t q_lora_otherwise = q_lora == NULL ? 1536 : 0;
    SHOAL_TRY(shoal__config_int(&a->q_lora_rank, config, "q_lora_rank", NULL, q_lora_otherwise, 0,
                                1 << 16, log));

    int32_t n_rot;
    bool interleave;
    double mscale_squared;
    SHOAL_TRY(shoal__config_int(&n_rot, config, "qk_rope_head_dim", NULL, 64, 2, 1 << 14, log));
    SHOAL_TRY(shoal__config_bool(&interleave, config, "rope_interleave", true, log));
    SHOAL_TRY(shoal__spec_read_rope(spec, config,
                                    interleave ? SHOAL_ROPE_INTERLEAVED : SHOAL_ROPE_HALF, n_rot,
                                    10000.0F, &mscale_squared, log));
    a->n_kv_head = 1; /* the absorbed form: all heads share one latent row */
    a->head_dim = a->nope_dim + n_rot;
    a->scale = (float)(mscale_squared / sqrt((double)a->head_dim));
    return SHOAL_OK;
}

static shoal_status read_router(shoal_spec *spec, const shoal_json *config, shoal_log *log)
{
    shoal_router_config *r = &spec->router;
    SHOAL_TRY(shoal__config_require(config, "scoring_func", "sigmoid", log));
    SHOAL_TRY(shoal__config_require(config, "topk_method", "noaux_tc", log));
    r->score = SHOAL_ROUTER_SIGMOID;
    r->group_score = SHOAL_GROUP_TOP2_SUM;
    r->masked_score = -INFINITY;
    spec->router_bias_for_select = true;
    SHOAL_TRY(shoal__config_int(&r->n_expert, config, "n_routed_experts", "num_local_experts", 256,
                                1, SHOAL_MAX_EXPERT, log));
    SHOAL_TRY(shoal__config_int(&r->top_k, config, "num_experts_per_tok", NULL, 8, 1,
                                SHOAL_MAX_TOP_K, log));
    SHOAL_TRY(shoal__config_int(&r->n_group, config, "n_group", NULL, 8, 1, r->n_expert, log));
    SHOAL_TRY(shoal__config_int(&r->topk_group, config, "topk_group", NULL, 4, 1, r->n_group, log));
    SHOAL_TRY(shoal__config_bool(&r->normalize, config, "norm_topk_prob", true, log));
    return shoal__config_float(&r->scale, config, "routed_scaling_factor", 2.5F, 0.0, 1e6, log);
}

static shoal_status read_deepseek_v3(shoal_spec *spec, const shoal_json *config, shoal_log *log)
{
    const shoal_spec_defaults defaults = {.n_layer = 61,
                                          .n_vocab = 129280,
                                          .n_embd = 7168,
                                          .n_context_max = 4096,
                                          .norm_eps = 1e-6F,
                                          .tied_embeddings = false};
    SHOAL_TRY(shoal__spec_read_common(spec, config, &defaults, log));
    SHOAL_TRY(read_attention(spec, config, log));
    SHOAL_TRY(read_router(spec, config, log));

    int32_t n_dense, frequency, n_shared;
    SHOAL_TRY(shoal__config_int(&spec->n_ff_dense, config, "intermediate_size", NULL, 18432, 1,
                                1 << 20, log));
    SHOAL_TRY(shoal__config_int(&spec->n_ff_expert, config, "moe_intermediate_size", NULL, 2048, 1,
                                1 << 20, log));
    SHOAL_TRY(shoal__config_int(&n_shared, config, "n_shared_experts", NULL, 1, 0, 1024, log));
    SHOAL_TRY(
        shoal__config_int(&n_dense, config, "first_k_dense_replace", NULL, 3, 0, 1 << 20, log));
    SHOAL_TRY(shoal__config_int(&frequency, config, "moe_layer_freq", NULL, 1, 1, 1 << 20, log));
    SHOAL_TRY(shoal__config_int(&spec->n_mtp_layer, config, "num_nextn_predict_layers", NULL, 0, 0,
                                64, log));
    spec->n_ff_shared = n_shared * spec->n_ff_expert;
    for (int32_t layer = 0; layer < spec->n_layer; layer++)
        spec->is_moe[layer] = layer >= n_dense && layer % frequency == 0;
    return SHOAL_OK;
}

const shoal_family shoal_family_deepseek_v3 = {
    .model_type = "deepseek_v3",
    .read = read_deepseek_v3,
    .tensor =
        {
            [SHOAL_ROLE_EMBED] = "model.embed_tokens.weight",
            [SHOAL_ROLE_FINAL_NORM] = "model.norm.weight",
            [SHOAL_ROLE_LM_HEAD] = "lm_head.weight",
            [SHOAL_ROLE_ATTN_NORM] = "model.layers.%d.input_layernorm.weight",
            [SHOAL_ROLE_MLP_NORM] = "model.layers.%d.post_attention_layernorm.weight",
            [SHOAL_ROLE_Q] = "model.layers.%d.self_attn.q_proj.weight",
            [SHOAL_ROLE_O] = "model.layers.%d.self_attn.o_proj.weight",
            [SHOAL_ROLE_Q_A] = "model.layers.%d.self_attn.q_a_proj.weight",
            [SHOAL_ROLE_Q_A_NORM] = "model.layers.%d.self_attn.q_a_layernorm.weight",
            [SHOAL_ROLE_Q_B] = "model.layers.%d.self_attn.q_b_proj.weight",
            [SHOAL_ROLE_KV_A] = "model.layers.%d.self_attn.kv_a_proj_with_mqa.weight",
            [SHOAL_ROLE_KV_A_NORM] = "model.layers.%d.self_attn.kv_a_layernorm.weight",
            [SHOAL_ROLE_KV_B] = "model.layers.%d.self_attn.kv_b_proj.weight",
            [SHOAL_ROLE_GATE] = "model.layers.%d.mlp.gate_proj.weight",
            [SHOAL_ROLE_UP] = "model.layers.%d.mlp.up_proj.weight",
            [SHOAL_ROLE_DOWN] = "model.layers.%d.mlp.down_proj.weight",
            [SHOAL_ROLE_ROUTER] = "model.layers.%d.mlp.gate.weight",
            [SHOAL_ROLE_ROUTER_SELECT_BIAS] = "model.layers.%d.mlp.gate.e_score_correction_bias",
            [SHOAL_ROLE_SHARED_GATE] = "model.layers.%d.mlp.shared_experts.gate_proj.weight",
            [SHOAL_ROLE_SHARED_UP] = "model.layers.%d.mlp.shared_experts.up_proj.weight",
            [SHOAL_ROLE_SHARED_DOWN] = "model.layers.%d.mlp.shared_experts.down_proj.weight",
            [SHOAL_ROLE_EXPERT_GATE] = "model.layers.%d.mlp.experts.%d.gate_proj.weight",
            [SHOAL_ROLE_EXPERT_UP] = "model.layers.%d.mlp.experts.%d.up_proj.weight",
            [SHOAL_ROLE_EXPERT_DOWN] = "model.layers.%d.mlp.experts.%d.down_proj.weight",
        },
};
