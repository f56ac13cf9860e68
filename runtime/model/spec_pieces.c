/* The pieces that families combine: attention kinds, routers, which layers are MoE. */
#include "runtime/model/spec_read.h"

#include <math.h>

shoal_status shoal__spec_read_gqa(shoal_spec *spec, const shoal_json *config,
                                  const shoal_gqa_defaults *d, shoal_log *log)
{
    shoal_attention_config *a = &spec->attention;
    a->kind = SHOAL_ATTENTION_GQA;
    SHOAL_TRY(shoal__config_int(&a->n_head, config, "num_attention_heads", NULL, d->n_head, 1, 4096,
                                log));
    int32_t n_kv_head = d->n_kv_head > 0 ? d->n_kv_head : a->n_head;
    SHOAL_TRY(shoal__config_int(&a->n_kv_head, config, "num_key_value_heads", NULL, n_kv_head, 1,
                                a->n_head, log));
    if (a->n_head % a->n_kv_head != 0)
        return shoal_fail(
            log, SHOAL_BAD_DATA,
            "config.json: num_attention_heads %d is no multiple of num_key_value_heads %d",
            a->n_head, a->n_kv_head);
    int32_t head_dim = d->head_dim > 0 ? d->head_dim : spec->n_embd / a->n_head;
    SHOAL_TRY(shoal__config_int(&a->head_dim, config, "head_dim", NULL, head_dim, 2, 1 << 14, log));
    a->v_dim = a->head_dim;
    a->scale = (float)(1.0 / sqrt((double)a->head_dim));

    const shoal_json *parameters = shoal__config_find(config, "rope_parameters", NULL);
    bool inside = parameters != NULL && shoal_json_get(parameters, "partial_rotary_factor") != NULL;
    float partial;
    SHOAL_TRY(shoal__config_float(&partial, inside ? parameters : config, "partial_rotary_factor",
                                  d->partial_rotary > 0.0F ? d->partial_rotary : 1.0F, 0.0, 1.0,
                                  log));
    double mscale_squared; /* DeepSeek's own: not of these families */
    return shoal__spec_read_rope(spec, config, SHOAL_ROPE_HALF,
                                 (int32_t)((float)a->head_dim * partial), d->rope_theta,
                                 &mscale_squared, log);
}

shoal_status shoal__spec_read_mla(shoal_spec *spec, const shoal_json *config,
                                  int32_t n_head_otherwise, int32_t q_lora_otherwise,
                                  shoal_log *log)
{
    shoal_attention_config *a = &spec->attention;
    a->kind = SHOAL_ATTENTION_MLA;
    SHOAL_TRY(shoal__config_require_bool(config, "attention_bias", false, log));
    SHOAL_TRY(shoal__config_int(&a->n_head, config, "num_attention_heads", NULL, n_head_otherwise,
                                1, 4096, log));
    SHOAL_TRY(
        shoal__config_int(&a->kv_lora_rank, config, "kv_lora_rank", NULL, 512, 1, 1 << 16, log));
    SHOAL_TRY(
        shoal__config_int(&a->nope_dim, config, "qk_nope_head_dim", NULL, 128, 1, 1 << 14, log));
    SHOAL_TRY(shoal__config_int(&a->v_dim, config, "v_head_dim", NULL, 128, 1, 1 << 14, log));
    int32_t q_lora = shoal_json_get(config, "q_lora_rank") == NULL ? q_lora_otherwise : 0;
    SHOAL_TRY(
        shoal__config_int(&a->q_lora_rank, config, "q_lora_rank", NULL, q_lora, 0, 1 << 16, log));

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

shoal_status shoal__spec_read_router(shoal_spec *spec, const shoal_json *config,
                                     const char *expert_key, int32_t n_expert, int32_t top_k,
                                     shoal_log *log)
{
    shoal_router_config *r = &spec->router;
    r->n_group = 1;
    r->topk_group = 1;
    r->scale = 1.0F;
    r->masked_score = -INFINITY;
    SHOAL_TRY(shoal__config_int(&r->n_expert, config, expert_key, "num_local_experts", n_expert, 1,
                                SHOAL_MAX_EXPERT, log));
    return shoal__config_int(&r->top_k, config, "num_experts_per_tok", NULL, top_k, 1,
                             SHOAL_MAX_TOP_K, log);
}

shoal_status shoal__spec_read_groups(shoal_spec *spec, const shoal_json *config, int32_t n_group,
                                     int32_t topk_group, shoal_log *log)
{
    shoal_router_config *r = &spec->router;
    SHOAL_TRY(
        shoal__config_int(&r->n_group, config, "n_group", NULL, n_group, 1, r->n_expert, log));
    return shoal__config_int(&r->topk_group, config, "topk_group", NULL,
                             topk_group < r->n_group ? topk_group : r->n_group, 1, r->n_group, log);
}

shoal_status shoal__spec_read_deepseek_mlp(shoal_spec *spec, const shoal_json *config,
                                           const shoal_deepseek_mlp_defaults *d, shoal_log *log)
{
    int32_t n_dense, frequency, n_shared;
    SHOAL_TRY(shoal__config_int(&spec->n_ff_dense, config, "intermediate_size", NULL, d->n_ff_dense,
                                1, 1 << 20, log));
    SHOAL_TRY(shoal__config_int(&spec->n_ff_expert, config, "moe_intermediate_size", NULL,
                                d->n_ff_expert, 1, 1 << 20, log));
    SHOAL_TRY(
        shoal__config_int(&n_shared, config, "n_shared_experts", NULL, d->n_shared, 0, 1024, log));
    SHOAL_TRY(shoal__config_int(&n_dense, config, "first_k_dense_replace", NULL, d->n_dense_layer,
                                0, 1 << 20, log));
    SHOAL_TRY(shoal__config_int(&frequency, config, "moe_layer_freq", NULL, 1, 1, 1 << 20, log));
    spec->n_ff_shared = n_shared * spec->n_ff_expert;
    for (int32_t layer = 0; layer < spec->n_layer; layer++)
        spec->is_moe[layer] = layer >= n_dense && layer % frequency == 0;
    return SHOAL_OK;
}

shoal_status shoal__spec_read_sparse_layers(shoal_spec *spec, const shoal_json *config,
                                            shoal_log *log)
{
    int32_t sparse_step;
    SHOAL_TRY(
        shoal__config_int(&sparse_step, config, "decoder_sparse_step", NULL, 1, 1, 1 << 20, log));
    for (int32_t layer = 0; layer < spec->n_layer; layer++)
        spec->is_moe[layer] = (layer + 1) % sparse_step == 0;
    const shoal_json *dense = shoal__config_find(config, "mlp_only_layers", NULL);
    if (dense != NULL && !shoal_json_is_array(dense))
        return shoal_fail(log, SHOAL_BAD_DATA, "config.json: mlp_only_layers is not a list");
    for (size_t i = 0; i < shoal_json_size(dense); i++) {
        int64_t layer = shoal_json_int(shoal_json_at(dense, i), -1);
        if (layer < 0 || layer >= spec->n_layer)
            return shoal_fail(log, SHOAL_BAD_DATA,
                              "config.json: mlp_only_layers[%zu] is %lld, wanted a layer 0 to %d",
                              i, (long long)layer, spec->n_layer - 1);
        spec->is_moe[layer] = false;
    }
    return SHOAL_OK;
}

shoal_status shoal__spec_read_all_moe(shoal_spec *spec, const shoal_json *config, int32_t n_ff,
                                      shoal_log *log)
{
    for (int32_t layer = 0; layer < spec->n_layer; layer++)
        spec->is_moe[layer] = true;
    return shoal__config_int(&spec->n_ff_expert, config, "intermediate_size", NULL, n_ff, 1,
                             1 << 20, log);
}
