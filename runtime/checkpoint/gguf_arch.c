#include "runtime/checkpoint/gguf_arch.h"

#include <string.h>

typedef struct name_pair {
    const char *gguf, *hf;
} name_pair;

static const name_pair model_names[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
};

/* Behind "blk.N." and "model.layers.N."; ".weight" or ".bias" follows in both. */
static const name_pair layer_names[] = {
    {"attn_norm", "input_layernorm"},
    {"ffn_norm", "post_attention_layernorm"},
    {"post_attention_norm", "post_attention_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"attn_q_a", "self_attn.q_a_proj"},
    {"attn_q_b", "self_attn.q_b_proj"},
    {"attn_q_a_norm", "self_attn.q_a_layernorm"},
    {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"},
    {"attn_kv_a_norm", "self_attn.kv_a_layernorm"},
    {"attn_kv_b", "self_attn.kv_b_proj"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
    {"ffn_gate_inp_shexp", "mlp.shared_expert_gate"},
    {"nextn.eh_proj", "eh_proj"},
    {"nextn.enorm", "enorm"},
    {"nextn.hnorm", "hnorm"},
    {"nextn.embed_tokens", "embed_tokens"},
    {"nextn.shared_head_norm", "shared_head.norm"},
    {"nextn.shared_head_head", "shared_head.head"},
};

/* Without ".weight" or ".bias" of Hugging Face. */
static const name_pair bare_names[] = {
    {"attn_sinks.weight", "self_attn.sinks"},
    {"exp_probs_b.bias", "mlp.gate.e_score_correction_bias"},
    {"exp_probs_b.weight", "mlp.gate.e_score_correction_bias"},
    {"exp_probs_b", "mlp.gate.e_score_correction_bias"},
};

#define EACH                                                                                       \
    "mlp.experts.%d.gate_proj", "mlp.experts.%d.up_proj", "mlp.experts.%d.down_proj", ".weight",   \
        ".bias"
#define FUSED SHOAL__VIEW_INTERLEAVED

static const shoal__arch_names archs[] = {
    {"qwen3moe", "mlp.gate", EACH, NULL, FUSED, false},
    {"qwen2moe", "mlp.gate", EACH, "mlp.shared_expert", FUSED, false},
    {"deepseek2", "mlp.gate", EACH, "mlp.shared_experts", FUSED, false},
    {"glm4moe", "mlp.gate", EACH, "mlp.shared_experts", FUSED, false},
    {"olmoe", "mlp.gate", EACH, NULL, FUSED, false},
    {"llama", "block_sparse_moe.gate", "block_sparse_moe.experts.%d.w1",
     "block_sparse_moe.experts.%d.w3", "block_sparse_moe.experts.%d.w2", ".weight", ".bias", NULL,
     FUSED, true},
    {"gpt-oss", "mlp.router", "mlp.experts.gate_up_proj", NULL, "mlp.experts.down_proj", "",
     "_bias", NULL, SHOAL__VIEW_INTERLEAVED, false},
    {"granitemoe", "block_sparse_moe.router.layer", "block_sparse_moe.input_linear", NULL,
     "block_sparse_moe.output_linear", ".weight", ".bias", "shared_mlp", SHOAL__VIEW_HALVES, true},
};

static const char *find(const name_pair *pair, size_t n, const char *gguf)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(pair[i].gguf, gguf) == 0)
            return pair[i].hf;
    return NULL;
}

const shoal__arch_names *shoal__gguf_find_arch(const char *architecture)
{
    for (size_t i = 0; i < sizeof archs / sizeof archs[0]; i++)
        if (strcmp(archs[i].gguf, architecture) == 0)
            return &archs[i];
    return NULL;
}

const char *shoal__gguf_model_name(const char *gguf)
{
    return find(model_names, sizeof model_names / sizeof model_names[0], gguf);
}

const char *shoal__gguf_bare_name(const char *gguf)
{
    return find(bare_names, sizeof bare_names / sizeof bare_names[0], gguf);
}

const char *shoal__gguf_layer_name(const char *gguf)
{
    return find(layer_names, sizeof layer_names / sizeof layer_names[0], gguf);
}
