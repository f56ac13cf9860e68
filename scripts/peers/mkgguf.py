#!/usr/bin/env python3
"""The checkpoint of mkmoe.py as a bf16 GGUF without a vocabulary, so that llama.cpp runs the same weights.

usage: mkgguf.py CHECKPOINT_DIR OUT.gguf

llama_speed.py --quantize makes Q4_0 and Q8_0 of it. Needs numpy and gguf.
"""
import json
import os
import struct
import sys

import gguf
import numpy as np

NORMS = dict(input_layernorm="attn_norm", post_attention_layernorm="ffn_norm")
ATTENTION = dict(q_proj="attn_q", k_proj="attn_k", v_proj="attn_v", o_proj="attn_output", q_norm="attn_q_norm", k_norm="attn_k_norm")


class Checkpoint:
    """bf16 tensors of one safetensors file, mapped."""

    def __init__(self, folder):
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            self.config = json.load(file)
        path = os.path.join(folder, "model.safetensors")
        with open(path, "rb") as file:
            n_header = struct.unpack("<Q", file.read(8))[0]
            self.header = json.loads(file.read(n_header))
        self.data = np.memmap(path, np.uint16, "r", 8 + n_header)

    def tensor(self, name):
        entry = self.header[name]
        first, last = entry["data_offsets"]
        return self.data[first // 2:last // 2].reshape(entry["shape"])


def write_keys(writer, config):
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_expert_count(config["num_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_string("tokenizer.ggml.model", "no_vocab")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)


def put(writer, name, x, f32=False):
    if f32 or x.ndim == 1:
        writer.add_tensor(name, (x.astype(np.uint32) << 16).view(np.float32))
    else:
        writer.add_tensor(name, np.ascontiguousarray(x).view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)


def put_layer(writer, checkpoint, layer):
    there, here = f"model.layers.{layer}.", f"blk.{layer}."
    for name, short in NORMS.items():
        put(writer, f"{here}{short}.weight", checkpoint.tensor(f"{there}{name}.weight"))
    for name, short in ATTENTION.items():
        put(writer, f"{here}{short}.weight", checkpoint.tensor(f"{there}self_attn.{name}.weight"))
    put(writer, f"{here}ffn_gate_inp.weight", checkpoint.tensor(f"{there}mlp.gate.weight"), f32=True)
    for kind in ("gate", "up", "down"):
        experts = [checkpoint.tensor(f"{there}mlp.experts.{e}.{kind}_proj.weight") for e in range(checkpoint.config["num_experts"])]
        put(writer, f"{here}ffn_{kind}_exps.weight", np.stack(experts))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    checkpoint, out = Checkpoint(sys.argv[1]), sys.argv[2]
    writer = gguf.GGUFWriter(out + ".part", "qwen3moe")
    write_keys(writer, checkpoint.config)
    put(writer, "token_embd.weight", checkpoint.tensor("model.embed_tokens.weight"))
    put(writer, "output.weight", checkpoint.tensor("lm_head.weight"))
    put(writer, "output_norm.weight", checkpoint.tensor("model.norm.weight"))
    for layer in range(checkpoint.config["num_hidden_layers"]):
        put_layer(writer, checkpoint, layer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(out + ".part", out)


main()
