/* A model's architecture as data. A family (family/NAME.c) fills one spec from config.json;
 * attention kinds, router kinds and MLP kinds are pieces that the spec combines, so that there is
 * one forward pass for all families. Tensor roles are named once here; a family says how its files
 * call them. Layering: model knows checkpoint, experts, kernels and base. */
#ifndef SHOAL_MODEL_SPEC_H
#define SHOAL_MODEL_SPEC_H

#include "runtime/checkpoint/checkpoint.h"
#include "runtime/kernels/ops.h"
#include "runtime/kernels/route.h"

#define SHOAL_MAX_LAYER 1024
#define SHOAL_MAX_EOS   16

typedef enum shoal_attention_kind { SHOAL_ATTENTION_GQA, SHOAL_ATTENTION_MLA } shoal_attention_kind;
typedef enum shoal_qk_norm_kind {
    SHOAL_QK_NORM_NONE,
    SHOAL_QK_NORM_HEAD,
    SHOAL_QK_NORM_WHOLE
} shoal_qk_norm_kind;
typedef enum shoal_rope_kind { SHOAL_ROPE_HALF, SHOAL_ROPE_INTERLEAVED } shoal_rope_kind;

typedef struct shoal_rope_config {
    shoal_rope_kind kind;
    int32_t n_rot;        /* rotated values per head */
    float *inv_freq;      /* [n_rot / 2], owned by the spec; YaRN already applied */
    float cos_sin_factor; /* YaRN attention factor on cos and sin; 1 without */
} shoal_rope_config;

typedef struct shoal_attention_config {
    shoal_attention_kind kind;
    int32_t n_head;
    int32_t n_kv_head;          /* GQA */
    int32_t head_dim;           /* GQA: of q, k, v */
    shoal_qk_norm_kind qk_norm; /* GQA */
    bool qkv_bias, o_bias;      /* GQA */
    bool sinks;                 /* GQA: a learned score per head in the denominator */
    int32_t q_lora_rank;        /* MLA; 0: q has one matrix */
    int32_t kv_lora_rank;       /* MLA */
    int32_t nope_dim;           /* MLA: unrotated part of a head's q and k */
    int32_t v_dim;              /* MLA: values per head */
    float scale;                /* of the scores, all factors in */
    int32_t *window; /* [n_layer + n_mtp_layer] positions seen, itself included; 0: all */
    shoal_rope_config rope;
} shoal_attention_config;

typedef struct shoal_spec {
    const struct shoal_family *family;
    int32_t n_layer;
    int32_t n_vocab;
    int32_t n_embd;
    int32_t n_context_max; /* max_position_embeddings */
    float norm_eps;
    bool tied_embeddings;
    shoal_attention_config attention;
    shoal_router_config router;  /* of MoE layers */
    bool router_bias;            /* added to the logits */
    bool router_bias_for_select; /* e_score_correction_bias */
    int32_t n_ff_dense;          /* inner size of a dense layer's MLP */
    int32_t n_ff_expert;
    int32_t n_ff_shared; /* 0: no shared experts */
    bool shared_gated;   /* shared experts times sigmoid(g . x) */
    bool expert_bias;
    float embedding_multiplier, residual_multiplier, logits_divisor; /* 1 but for Granite */
    shoal_activation activation; /* of every MLP; zeroed: SiLU */
    bool *is_moe;                /* [n_layer + n_mtp_layer] */
    int32_t n_moe_layer;         /* without MTP layers */
    int32_t n_mtp_layer;         /* multi-token-prediction layers at index n_layer..: recognised */
    int32_t n_eos;
    int32_t eos[SHOAL_MAX_EOS]; /* from generation_config.json, else config.json */
    int32_t bos;                /* -1: none */
} shoal_spec;

/* What a tensor is for. X(name, level): per model, per layer, per expert. */
typedef enum shoal_role {
    SHOAL_ROLE_EMBED,
    SHOAL_ROLE_FINAL_NORM,
    SHOAL_ROLE_LM_HEAD,
    SHOAL_ROLE_ATTN_NORM,
    SHOAL_ROLE_MLP_NORM,
    SHOAL_ROLE_Q, /* GQA, and MLA without q_lora */
    SHOAL_ROLE_K,
    SHOAL_ROLE_V,
    SHOAL_ROLE_O,
    SHOAL_ROLE_Q_BIAS,
    SHOAL_ROLE_K_BIAS,
    SHOAL_ROLE_V_BIAS,
    SHOAL_ROLE_O_BIAS,
    SHOAL_ROLE_SINKS,
    SHOAL_ROLE_Q_NORM,
    SHOAL_ROLE_K_NORM,
    SHOAL_ROLE_Q_A, /* MLA */
    SHOAL_ROLE_Q_A_NORM,
    SHOAL_ROLE_Q_B,
    SHOAL_ROLE_KV_A,
    SHOAL_ROLE_KV_A_NORM,
    SHOAL_ROLE_KV_B,
    SHOAL_ROLE_GATE, /* dense MLP */
    SHOAL_ROLE_UP,
    SHOAL_ROLE_DOWN,
    SHOAL_ROLE_ROUTER,
    SHOAL_ROLE_ROUTER_BIAS,
    SHOAL_ROLE_ROUTER_SELECT_BIAS,
    SHOAL_ROLE_SHARED_GATE,
    SHOAL_ROLE_SHARED_UP,
    SHOAL_ROLE_SHARED_DOWN,
    SHOAL_ROLE_SHARED_EXPERT_GATE, /* the gate over all of the shared expert */
    SHOAL_ROLE_EXPERT_GATE,
    SHOAL_ROLE_EXPERT_UP,
    SHOAL_ROLE_EXPERT_DOWN,
    SHOAL_ROLE_EXPERT_GATE_BIAS,
    SHOAL_ROLE_EXPERT_UP_BIAS,
    SHOAL_ROLE_EXPERT_DOWN_BIAS,
    SHOAL_ROLE_MTP_EMBED_NORM,
    SHOAL_ROLE_MTP_HIDDEN_NORM,
    SHOAL_ROLE_MTP_HEAD_NORM,
    SHOAL_ROLE_MTP_PROJECT,
    SHOAL_N_ROLE
} shoal_role;

/* How a family stores the experts of a layer. Fused: one tensor [n_expert, ...] for all, gate and
 * up in one. */
typedef enum shoal_expert_layout {
    SHOAL_EXPERTS_SEPARATE,
    SHOAL_EXPERTS_FUSED_HALVES,      /* gate rows, then up rows */
    SHOAL_EXPERTS_FUSED_INTERLEAVED, /* gate and up rows alternate; stored [in, out] unless MXFP4 */
} shoal_expert_layout;

/* One architecture family: its own small file. */
typedef struct shoal_family {
    const char *model_type; /* config.json's */
    /* Fill the spec's numbers from config; arrays are the spec's to own. Missing keys fall back to
     * the family's class defaults; both config styles (rope_scaling / rope_parameters, torch_dtype
     * / dtype, num_experts / num_local_experts) are read. */
    shoal_status (*read)(shoal_spec *spec, const shoal_json *config, shoal_log *log);
    /* printf pattern per role; %d once for a per-layer role, twice (layer, expert) for an expert
     * role; NULL: not in this family. */
    const char *tensor[SHOAL_N_ROLE];
    shoal_expert_layout expert_layout;
    bool publishes_active_with_embedding; /* its model cards count the embedding as active */
} shoal_family;

#define SHOAL_TENSOR_NAME_MAX 256

/* Read config.json (and generation_config.json's end tokens) into a spec. Errors: BAD_DATA: unknown
 * model_type (the text lists what is supported), a missing or absurd value: names the key, what was
 * found and what was wanted. */
shoal_status shoal_spec_open(shoal_spec *spec, const shoal_checkpoint *checkpoint, shoal_log *log);
/* Same from parsed documents (generation_config may be NULL). name: for messages. */
shoal_status shoal_spec_read(shoal_spec *spec, const shoal_json *config,
                             const shoal_json *generation_config, const char *name, shoal_log *log);
void shoal_spec_close(shoal_spec *spec); /* accepts zeroed */

/* Name of the tensor with a role; layer and expert as the role needs. Returns name. */
const char *shoal_spec_tensor_name(char name[SHOAL_TENSOR_NAME_MAX], const shoal_spec *spec,
                                   shoal_role role, int32_t layer, int32_t expert);

/* Width of one position's cache row in values, per layer: MLA kv_lora_rank + n_rot; GQA 2 *
 * n_kv_head * head_dim (k, then v). */
int32_t shoal_spec_kv_width(const shoal_spec *spec);

/* What the weights of a model are, one entry per kind of tensor, from the spec alone: the sum over
 * all is what a checkpoint holds. */
typedef enum shoal_weight_class {
    SHOAL_WEIGHT_EMBED,
    SHOAL_WEIGHT_LM_HEAD,
    SHOAL_WEIGHT_ATTENTION,
    SHOAL_WEIGHT_ROUTER,
    SHOAL_WEIGHT_DENSE_MLP,
    SHOAL_WEIGHT_SHARED_EXPERTS,
    SHOAL_WEIGHT_EXPERTS,
    SHOAL_WEIGHT_NORMS,
    SHOAL_WEIGHT_MTP, /* all of the MTP layers */
} shoal_weight_class;

typedef struct shoal_weight_shape {
    shoal_weight_class weight_class;
    bool linear;    /* a matrix that FP8 checkpoints quantise */
    bool absorbed;  /* MLA's kv_b, which --weights does not change */
    bool of_expert; /* of routed experts, also in MTP layers */
    bool f32;       /* stored in f32 whatever the rest is: e_score_correction_bias */
    int64_t n_row, n_col;
    int64_t count; /* tensors of this kind */
} shoal_weight_shape;

#define SHOAL_MAX_WEIGHT_SHAPE 96

/* Fill shape [SHOAL_MAX_WEIGHT_SHAPE]; returns how many. */
int32_t shoal_spec_shapes(shoal_weight_shape *shape, const shoal_spec *spec);

/* Parameters of the model, MTP layers apart. */
typedef struct shoal_parameter_count {
    int64_t embed, lm_head, attention, router, dense_mlp, shared_experts, experts, norms;
    int64_t mtp; /* without the copies of embedding and head that files hold; not in total */
    int64_t one_expert;
    int64_t total;
    int64_t active; /* per token: all but the experts that are not chosen and the embedding, of
                       which a token reads one row; tied, it is the head and counts */
    int64_t active_with_embedding; /* the same, the whole embedding counted */
} shoal_parameter_count;
shoal_parameter_count shoal_spec_count(const shoal_spec *spec);

/* All families, for messages and tests; ends with NULL. */
const shoal_family *const *shoal_families(void);

#endif
