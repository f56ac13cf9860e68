/* Tensor names that several families share, as initialisers of shoal_family.tensor. */
#ifndef SHOAL_MODEL_FAMILY_NAMES_H
#define SHOAL_MODEL_FAMILY_NAMES_H

/* A per-layer name. In parentheses, so that a forgotten comma between two names shows. */
#define SHOAL_IN_LAYER(rest) ("model.layers.%d." rest)

#define SHOAL_NAMES_MODEL                                                                          \
    [SHOAL_ROLE_EMBED] = "model.embed_tokens.weight",                                              \
    [SHOAL_ROLE_FINAL_NORM] = "model.norm.weight", [SHOAL_ROLE_LM_HEAD] = "lm_head.weight",        \
    [SHOAL_ROLE_ATTN_NORM] = SHOAL_IN_LAYER("input_layernorm.weight"),                             \
    [SHOAL_ROLE_MLP_NORM] = SHOAL_IN_LAYER("post_attention_layernorm.weight")

#define SHOAL_NAMES_GQA                                                                            \
    [SHOAL_ROLE_Q] = SHOAL_IN_LAYER("self_attn.q_proj.weight"),                                    \
    [SHOAL_ROLE_K] = SHOAL_IN_LAYER("self_attn.k_proj.weight"),                                    \
    [SHOAL_ROLE_V] = SHOAL_IN_LAYER("self_attn.v_proj.weight"),                                    \
    [SHOAL_ROLE_O] = SHOAL_IN_LAYER("self_attn.o_proj.weight")

#define SHOAL_NAMES_QKV_BIAS                                                                       \
    [SHOAL_ROLE_Q_BIAS] = SHOAL_IN_LAYER("self_attn.q_proj.bias"),                                 \
    [SHOAL_ROLE_K_BIAS] = SHOAL_IN_LAYER("self_attn.k_proj.bias"),                                 \
    [SHOAL_ROLE_V_BIAS] = SHOAL_IN_LAYER("self_attn.v_proj.bias")

#define SHOAL_NAMES_QK_NORM                                                                        \
    [SHOAL_ROLE_Q_NORM] = SHOAL_IN_LAYER("self_attn.q_norm.weight"),                               \
    [SHOAL_ROLE_K_NORM] = SHOAL_IN_LAYER("self_attn.k_norm.weight")

#define SHOAL_NAMES_MLA                                                                            \
    [SHOAL_ROLE_Q] = SHOAL_IN_LAYER("self_attn.q_proj.weight"),                                    \
    [SHOAL_ROLE_O] = SHOAL_IN_LAYER("self_attn.o_proj.weight"),                                    \
    [SHOAL_ROLE_Q_A] = SHOAL_IN_LAYER("self_attn.q_a_proj.weight"),                                \
    [SHOAL_ROLE_Q_A_NORM] = SHOAL_IN_LAYER("self_attn.q_a_layernorm.weight"),                      \
    [SHOAL_ROLE_Q_B] = SHOAL_IN_LAYER("self_attn.q_b_proj.weight"),                                \
    [SHOAL_ROLE_KV_A] = SHOAL_IN_LAYER("self_attn.kv_a_proj_with_mqa.weight"),                     \
    [SHOAL_ROLE_KV_A_NORM] = SHOAL_IN_LAYER("self_attn.kv_a_layernorm.weight"),                    \
    [SHOAL_ROLE_KV_B] = SHOAL_IN_LAYER("self_attn.kv_b_proj.weight")

#define SHOAL_NAMES_DENSE                                                                          \
    [SHOAL_ROLE_GATE] = SHOAL_IN_LAYER("mlp.gate_proj.weight"),                                    \
    [SHOAL_ROLE_UP] = SHOAL_IN_LAYER("mlp.up_proj.weight"),                                        \
    [SHOAL_ROLE_DOWN] = SHOAL_IN_LAYER("mlp.down_proj.weight")

#define SHOAL_NAMES_EXPERTS                                                                        \
    [SHOAL_ROLE_ROUTER] = SHOAL_IN_LAYER("mlp.gate.weight"),                                       \
    [SHOAL_ROLE_EXPERT_GATE] = SHOAL_IN_LAYER("mlp.experts.%d.gate_proj.weight"),                  \
    [SHOAL_ROLE_EXPERT_UP] = SHOAL_IN_LAYER("mlp.experts.%d.up_proj.weight"),                      \
    [SHOAL_ROLE_EXPERT_DOWN] = SHOAL_IN_LAYER("mlp.experts.%d.down_proj.weight")

#define SHOAL_NAMES_SELECT_BIAS                                                                    \
    [SHOAL_ROLE_ROUTER_SELECT_BIAS] = SHOAL_IN_LAYER("mlp.gate.e_score_correction_bias")

#define SHOAL_NAMES_SHARED                                                                         \
    [SHOAL_ROLE_SHARED_GATE] = SHOAL_IN_LAYER("mlp.shared_experts.gate_proj.weight"),              \
    [SHOAL_ROLE_SHARED_UP] = SHOAL_IN_LAYER("mlp.shared_experts.up_proj.weight"),                  \
    [SHOAL_ROLE_SHARED_DOWN] = SHOAL_IN_LAYER("mlp.shared_experts.down_proj.weight")

#define SHOAL_NAMES_MTP                                                                            \
    [SHOAL_ROLE_MTP_EMBED_NORM] = SHOAL_IN_LAYER("enorm.weight"),                                  \
    [SHOAL_ROLE_MTP_HIDDEN_NORM] = SHOAL_IN_LAYER("hnorm.weight"),                                 \
    [SHOAL_ROLE_MTP_HEAD_NORM] = SHOAL_IN_LAYER("shared_head.norm.weight"),                        \
    [SHOAL_ROLE_MTP_PROJECT] = SHOAL_IN_LAYER("eh_proj.weight")

#endif
