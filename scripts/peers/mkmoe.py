#!/usr/bin/env python3
"""Make the benchmark checkpoint: a Qwen3-MoE with random bf16 weights in the Hugging Face layout.

usage: mkmoe.py OUT [--hidden 1024 --layers 16 --heads 16 --kv-heads 8 --head-dim 64 --experts 64 --top-k 8 --expert-inner 512
                     --vocab 32000 --context 4096 --seed 7]

The defaults are the model that the figures in docs and README are of: 1.73 B parameters, 285 M of them active. Needs numpy.
"""
import argparse
import json
import os
import struct

import numpy as np

DEFAULTS = dict(hidden=1024, layers=16, heads=16, kv_heads=8, head_dim=64, experts=64, top_k=8, expert_inner=512, vocab=32000,
                context=4096, seed=7)


def tensors(a):
    """(name, shape) in the order of the file; vectors are norms."""
    yield "model.embed_tokens.weight", (a.vocab, a.hidden)
    for layer in range(a.layers):
        prefix = f"model.layers.{layer}."
        yield prefix + "self_attn.q_proj.weight", (a.heads * a.head_dim, a.hidden)
        yield prefix + "self_attn.k_proj.weight", (a.kv_heads * a.head_dim, a.hidden)
        yield prefix + "self_attn.v_proj.weight", (a.kv_heads * a.head_dim, a.hidden)
        yield prefix + "self_attn.o_proj.weight", (a.hidden, a.heads * a.head_dim)
        yield prefix + "mlp.gate.weight", (a.experts, a.hidden)
        for expert in range(a.experts):
            inside = prefix + f"mlp.experts.{expert}."
            yield inside + "gate_proj.weight", (a.expert_inner, a.hidden)
            yield inside + "down_proj.weight", (a.hidden, a.expert_inner)
            yield inside + "up_proj.weight", (a.expert_inner, a.hidden)
        yield prefix + "self_attn.q_norm.weight", (a.head_dim,)
        yield prefix + "self_attn.k_norm.weight", (a.head_dim,)
        yield prefix + "input_layernorm.weight", (a.hidden,)
        yield prefix + "post_attention_layernorm.weight", (a.hidden,)
    yield "model.norm.weight", (a.hidden,)
    yield "lm_head.weight", (a.vocab, a.hidden)


def to_bf16(x):
    """Round to nearest even, as the bits."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def values(shape, rng):
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(1.0 / np.sqrt(shape[-1]))


def config(a):
    return dict(architectures=["Qwen3MoeForCausalLM"], model_type="qwen3_moe", hidden_act="silu", hidden_size=a.hidden,
                intermediate_size=a.expert_inner * a.top_k, moe_intermediate_size=a.expert_inner, num_hidden_layers=a.layers,
                num_attention_heads=a.heads, num_key_value_heads=a.kv_heads, head_dim=a.head_dim, num_experts=a.experts,
                num_experts_per_tok=a.top_k, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[], rms_norm_eps=1e-6,
                rope_theta=1000000.0, max_position_embeddings=a.context, vocab_size=a.vocab, tie_word_embeddings=False,
                attention_bias=False, torch_dtype="bfloat16", bos_token_id=1, eos_token_id=2)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("out")
    for name, value in DEFAULTS.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    a = parser.parse_args()
    os.makedirs(a.out, exist_ok=True)
    header, offset = {}, 0
    for name, shape in tensors(a):
        end = offset + 2 * int(np.prod(shape))
        header[name] = dict(dtype="BF16", shape=list(shape), data_offsets=[offset, end])
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(a.seed)
    path = os.path.join(a.out, "model.safetensors")
    with open(path + ".part", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape in tensors(a):
            file.write(to_bf16(values(shape, rng)).tobytes())
    with open(os.path.join(a.out, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config(a), file, indent=1)
    os.replace(path + ".part", path)
    print(f"{a.out}: {offset / 2e6:.0f} M parameters")


main()
