#!/usr/bin/env python3
"""Make the benchmark checkpoint: a Qwen3-MoE with random bf16 weights in the Hugging Face layout.

usage: mkmoe.py OUT [--format bf16|fp8|mxfp4] [--hidden 1024 --layers 16 --heads 16 --kv-heads 8 --head-dim 64 --experts 64 --top-k 8
                     --expert-inner 512 --vocab 32000 --context 4096 --seed 7]

fp8: matrices but the router and the head as e4m3 with a scale for each block of 128 x 128. mxfp4: a gpt-oss of the same shape, the experts in
MXFP4, the rest in bf16. These two have random codes, so their texts are noise; they are for timing. The defaults are the model that the figures in docs and README are of: 1.73 B parameters, 285 M of them active. Needs numpy.
"""
import argparse
import json
import os
import struct

import numpy as np

DEFAULTS = dict(hidden=1024, layers=16, heads=16, kv_heads=8, head_dim=64, experts=64, top_k=8, expert_inner=512, vocab=32000,
                context=4096, seed=7)


FP8_BLOCK, GROUP = 128, 32


def attention(a, prefix):
    for name, shape in (("q", (a.heads * a.head_dim, a.hidden)), ("k", (a.kv_heads * a.head_dim, a.hidden)),
                        ("v", (a.kv_heads * a.head_dim, a.hidden)), ("o", (a.hidden, a.heads * a.head_dim))):
        yield prefix + f"self_attn.{name}_proj.weight", shape
        if a.format == "mxfp4":
            yield prefix + f"self_attn.{name}_proj.bias", shape[:1]


def qwen3_layer(a, prefix):
    yield from attention(a, prefix)
    yield prefix + "mlp.gate.weight", (a.experts, a.hidden)
    for expert in range(a.experts):
        inside = prefix + f"mlp.experts.{expert}."
        yield inside + "gate_proj.weight", (a.expert_inner, a.hidden)
        yield inside + "down_proj.weight", (a.hidden, a.expert_inner)
        yield inside + "up_proj.weight", (a.expert_inner, a.hidden)
    yield prefix + "self_attn.q_norm.weight", (a.head_dim,)
    yield prefix + "self_attn.k_norm.weight", (a.head_dim,)


def gpt_oss_layer(a, prefix):
    yield from attention(a, prefix)
    yield prefix + "self_attn.sinks", (a.heads,)
    yield prefix + "mlp.router.weight", (a.experts, a.hidden)
    yield prefix + "mlp.router.bias", (a.experts,)
    for name, rows, columns in (("gate_up", 2 * a.expert_inner, a.hidden), ("down", a.hidden, a.expert_inner)):
        inside = prefix + f"mlp.experts.{name}_proj_"
        yield inside + "blocks", (a.experts, rows, columns // GROUP, GROUP // 2)
        yield inside + "scales", (a.experts, rows, columns // GROUP)
        yield inside + "bias", (a.experts, rows)


def weights(a):
    """(name, shape) in the order of the file; vectors are norms and biases."""
    yield "model.embed_tokens.weight", (a.vocab, a.hidden)
    for layer in range(a.layers):
        prefix = f"model.layers.{layer}."
        yield from gpt_oss_layer(a, prefix) if a.format == "mxfp4" else qwen3_layer(a, prefix)
        yield prefix + "input_layernorm.weight", (a.hidden,)
        yield prefix + "post_attention_layernorm.weight", (a.hidden,)
    yield "model.norm.weight", (a.hidden,)
    yield "lm_head.weight", (a.vocab, a.hidden)


def tensors(a):
    """(name, shape, dtype, bytes of an element)."""
    for name, shape in weights(a):
        if name.endswith(("_blocks", "_scales")):
            yield name, shape, "U8", 1
        elif a.format == "fp8" and name.endswith("_proj.weight"):
            yield name, shape, "F8_E4M3", 1
            yield name + "_scale_inv", tuple(-(-n // FP8_BLOCK) for n in shape), "F32", 4
        else:
            yield name, shape, "BF16", 2


def to_bf16(x):
    """Round to nearest even, as the bits."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def values(name, shape, dtype, rng):
    """The bytes of a tensor. e4m3 codes are those up to 1.9; e8m0 scales 2^-5."""
    if dtype == "F8_E4M3":
        return rng.integers(0, 256, shape, np.uint8) & 0xBF
    if dtype == "F32":
        return np.full(shape, 2.0 / np.sqrt(shape[-1] * FP8_BLOCK), np.float32)
    if dtype == "U8":
        return np.full(shape, 127 - 5, np.uint8) if name.endswith("_scales") else rng.integers(0, 256, shape, np.uint8)
    if name.endswith(("bias", "sinks")):
        return np.zeros(shape, np.uint16)
    if len(shape) == 1:
        return to_bf16(np.ones(shape, np.float32))
    return to_bf16(rng.standard_normal(shape, dtype=np.float32) * np.float32(1.0 / np.sqrt(shape[-1])))


def config(a):
    if a.format == "mxfp4":
        return gpt_oss_config(a)
    fp8 = dict(quantization_config=dict(quant_method="fp8", fmt="e4m3", activation_scheme="dynamic", weight_block_size=[FP8_BLOCK, FP8_BLOCK]))
    return dict(fp8 if a.format == "fp8" else {}, architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", hidden_act="silu", hidden_size=a.hidden,
                intermediate_size=a.expert_inner * a.top_k, moe_intermediate_size=a.expert_inner, num_hidden_layers=a.layers,
                num_attention_heads=a.heads, num_key_value_heads=a.kv_heads, head_dim=a.head_dim, num_experts=a.experts,
                num_experts_per_tok=a.top_k, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[], rms_norm_eps=1e-6,
                rope_theta=1000000.0, max_position_embeddings=a.context, vocab_size=a.vocab, tie_word_embeddings=False,
                attention_bias=False, torch_dtype="bfloat16", bos_token_id=1, eos_token_id=2)


def gpt_oss_config(a):
    return dict(architectures=["GptOssForCausalLM"], model_type="gpt_oss", hidden_act="silu", hidden_size=a.hidden,
                intermediate_size=a.expert_inner, num_hidden_layers=a.layers, num_attention_heads=a.heads, num_key_value_heads=a.kv_heads,
                head_dim=a.head_dim, num_local_experts=a.experts, num_experts_per_tok=a.top_k, experts_per_token=a.top_k, rms_norm_eps=1e-5,
                rope_theta=150000.0, max_position_embeddings=a.context, vocab_size=a.vocab, tie_word_embeddings=False, attention_bias=True,
                layer_types=["sliding_attention", "full_attention"] * (a.layers // 2) + ["full_attention"] * (a.layers % 2),
                sliding_window=128, swiglu_limit=7.0, torch_dtype="bfloat16", bos_token_id=1, eos_token_id=2,
                quantization_config=dict(quant_method="mxfp4"))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("out")
    parser.add_argument("--format", choices=["bf16", "fp8", "mxfp4"], default="bf16")
    for name, value in DEFAULTS.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    a = parser.parse_args()
    os.makedirs(a.out, exist_ok=True)
    header, offset = {}, 0
    for name, shape, dtype, n_byte in tensors(a):
        end = offset + n_byte * int(np.prod(shape))
        header[name] = dict(dtype=dtype, shape=list(shape), data_offsets=[offset, end])
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(a.seed)
    path = os.path.join(a.out, "model.safetensors")
    with open(path + ".part", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape, dtype, _ in tensors(a):
            file.write(values(name, shape, dtype, rng).tobytes())
    with open(os.path.join(a.out, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config(a), file, indent=1)
    os.replace(path + ".part", path)
    print(f"{a.out}: {offset / 1e9:.2f} GB")


main()
