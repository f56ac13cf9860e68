/* Helpers for family files: one config key at a time, each with its range and its default, errors
 * that name the key. Layering: inside model. */
#ifndef SHOAL_MODEL_SPEC_READ_H
#define SHOAL_MODEL_SPEC_READ_H

#include "runtime/model/spec.h"

/* The value of the first of up to two keys that is present and not null; NULL if neither. key2 may
 * be NULL. */
const shoal_json *shoal__config_find(const shoal_json *config, const char *key, const char *key2);

/* An integer in [min, max]; `otherwise` if the key is absent or null. */
shoal_status shoal__config_int(int32_t *out, const shoal_json *config, const char *key,
                               const char *key2, int32_t otherwise, int32_t min, int32_t max,
                               shoal_log *log);
/* A finite number in [min, max]. */
shoal_status shoal__config_float(float *out, const shoal_json *config, const char *key,
                                 float otherwise, double min, double max, shoal_log *log);
shoal_status shoal__config_bool(bool *out, const shoal_json *config, const char *key,
                                bool otherwise, shoal_log *log);

/* Refuse a config whose string `key` is present and not `wanted` (an architecture variant that is
 * not built). */
shoal_status shoal__config_require(const shoal_json *config, const char *key, const char *wanted,
                                   shoal_log *log);
/* Refuse a config whose boolean `key` is present and not `wanted`. */
shoal_status shoal__config_require_bool(const shoal_json *config, const char *key, bool wanted,
                                        shoal_log *log);

/* What all families share: sizes, norm eps, vocabulary, context. Allocates is_moe [n_layer], all
 * false. */
typedef struct shoal_spec_defaults {
    int32_t n_layer, n_vocab, n_embd, n_context_max;
    float norm_eps;
    bool tied_embeddings;
} shoal_spec_defaults;
shoal_status shoal__spec_read_common(shoal_spec *spec, const shoal_json *config,
                                     const shoal_spec_defaults *d, shoal_log *log);

/* RoPE over n_rot values from rope_theta and rope_scaling, or from rope_parameters: type default or
 * yarn (transformers _compute_yarn_parameters). Sets spec->attention.rope; *mscale_squared gets
 * DeepSeek's factor on the score scale, (0.1 * mscale_all_dim * ln(factor) + 1)^2, or 1. */
shoal_status shoal__spec_read_rope(shoal_spec *spec, const shoal_json *config, shoal_rope_kind kind,
                                   int32_t n_rot, float theta_otherwise, double *mscale_squared,
                                   shoal_log *log);

/* Attention of both kinds: sizes from config.json, RoPE included; the score scale is head_dim^-0.5
 * (MLA: times mscale^2). */
typedef struct shoal_gqa_defaults {
    int32_t n_head;
    int32_t n_kv_head; /* 0: n_head */
    int32_t head_dim;  /* 0: n_embd / n_head */
    float rope_theta;
    float partial_rotary; /* share of a head's values that is rotated; 0: 1 */
} shoal_gqa_defaults;
shoal_status shoal__spec_read_gqa(shoal_spec *spec, const shoal_json *config,
                                  const shoal_gqa_defaults *d, shoal_log *log);
/* q_lora_otherwise, n_head_otherwise: when the key is absent; an explicit null for q_lora_rank
 * means none. */
shoal_status shoal__spec_read_mla(shoal_spec *spec, const shoal_json *config,
                                  int32_t n_head_otherwise, int32_t q_lora_otherwise,
                                  shoal_log *log);

/* Router sizes: experts (under expert_key or num_local_experts), top-k. The rest of the router
 * stays at: no groups, scale 1. */
shoal_status shoal__spec_read_router(shoal_spec *spec, const shoal_json *config,
                                     const char *expert_key, int32_t n_expert, int32_t top_k,
                                     shoal_log *log);
/* n_group and topk_group. */
shoal_status shoal__spec_read_groups(shoal_spec *spec, const shoal_json *config, int32_t n_group,
                                     int32_t topk_group, shoal_log *log);
/* MoE from layer first_k_dense_replace on, every moe_layer_freq-th (DeepSeek, GLM); inner sizes;
 * shared experts of n_shared_experts times the expert's size. */
typedef struct shoal_deepseek_mlp_defaults {
    int32_t n_ff_dense, n_ff_expert, n_shared, n_dense_layer;
} shoal_deepseek_mlp_defaults;
shoal_status shoal__spec_read_deepseek_mlp(shoal_spec *spec, const shoal_json *config,
                                           const shoal_deepseek_mlp_defaults *d, shoal_log *log);
/* MoE by mlp_only_layers and decoder_sparse_step (Qwen). */
shoal_status shoal__spec_read_sparse_layers(shoal_spec *spec, const shoal_json *config,
                                            shoal_log *log);
/* Every layer MoE, experts of intermediate_size (Mixtral, OLMoE, gpt-oss, Granite). */
shoal_status shoal__spec_read_all_moe(shoal_spec *spec, const shoal_json *config, int32_t n_ff,
                                      shoal_log *log);

#endif
