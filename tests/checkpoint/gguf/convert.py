#!/usr/bin/env python3
"""Write a small checkpoint folder as GGUF, in the way llama.cpp's converter does: experts stacked,
kv_b split, q and k of some families permuted, fused gate and up taken apart, vectors and routers in
f32. Standard library only, element by element: for the tests' checkpoints, not for models.

usage: convert.py FOLDER OUT.gguf [split=N] [kv_b=whole] [version=2] [tokenizer=FOLDER,PRE]
With split=N, OUT is a stem: OUT-00001-of-0000N.gguf, the first with metadata only."""
import array
import json
import lzma
import os
import struct
import sys

F32, BF16, MXFP4 = 0, 30, 39
U32, I32, FLOAT, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9


def read_folder(folder):
    with open(folder + "/config.json") as f:
        config = json.load(f)
    tensors = {}
    for name in sorted(os.listdir(folder)):
        if not name.startswith("model") or not name.endswith(".safetensors"):
            continue
        with open(folder + "/" + name, "rb") as f:
            data = f.read()
        n = struct.unpack("<Q", data[:8])[0]
        for key, t in json.loads(data[8:8 + n]).items():
            if key != "__metadata__":
                begin, end = t["data_offsets"]
                tensors[key] = (t["dtype"], t["shape"], data[8 + n + begin:8 + n + end])
    return config, tensors


# -- tensors: (type, shape with the slowest dimension first, bytes) --

def widen(data):
    out = array.array("I", (x << 16 for x in array.array("H", data)))
    return out.tobytes()


def typed(tensor, f32=False):
    dtype, shape, data = tensor
    if dtype == "F32":
        return F32, shape, data
    assert dtype == "BF16", dtype
    if f32 or len(shape) == 1:
        return F32, shape, widen(data)
    return BF16, shape, data


def rows(t, order):
    """The rows `order` of a [rows, columns] or [rows] tensor."""
    kind, shape, data = t
    n = len(data) // shape[0]
    return kind, [len(order)] + shape[1:], b"".join(data[r * n:(r + 1) * n] for r in order)


def transposed(t):
    kind, (n_row, n_col), data = t
    size = len(data) // (n_row * n_col)
    cells = [data[i * size:(i + 1) * size] for i in range(n_row * n_col)]
    return kind, [n_col, n_row], b"".join(cells[r * n_col + c]
                                          for c in range(n_col) for r in range(n_row))


def stacked(ts):
    return ts[0][0], [len(ts)] + ts[0][1], b"".join(t[2] for t in ts)


def slices(t):
    kind, shape, data = t
    n = len(data) // shape[0]
    return [(kind, shape[1:], data[i * n:(i + 1) * n]) for i in range(shape[0])]


def paired(t, n_head):
    d = t[1][0] // n_head
    return rows(t, [h * d + j * d // 2 + i for h in range(n_head) for i in range(d // 2)
                    for j in range(2)])


def mxfp4(blocks, scales):
    """gpt-oss's two tensors: nibbles in sequence become halves, the scale goes before them."""
    _, (n_expert, n_row, n_group, _), b = blocks
    out = bytearray()
    for g in range(n_expert * n_row * n_group):
        nib = [x for byte in b[16 * g:16 * g + 16] for x in (byte & 15, byte >> 4)]
        out.append(scales[2][g])
        out += bytes(nib[j] | nib[j + 16] << 4 for j in range(16))
    return MXFP4, [n_expert, n_row, n_group * 32], bytes(out)


# -- metadata --

def number(value):
    return (BOOL, value) if isinstance(value, bool) else \
        (U32, value) if isinstance(value, int) else (FLOAT, value)


def metadata(c, arch, n_layer):
    kv = {"general.architecture": (STRING, arch)}

    def put(key, value):
        if value is not None:
            kv[f"{arch}.{key}"] = (STRING, value) if isinstance(value, str) else number(value)

    get = c.get
    experts = get("num_experts") or get("n_routed_experts") or get("num_local_experts")
    mla = arch == "deepseek2"
    put("block_count", n_layer)
    put("context_length", get("max_position_embeddings"))
    put("embedding_length", get("hidden_size"))
    put("feed_forward_length", get("intermediate_size"))
    put("attention.head_count", get("num_attention_heads"))
    put("attention.head_count_kv", 1 if mla else get("num_key_value_heads"))
    put("attention.layer_norm_rms_epsilon", get("rms_norm_eps", 1e-5))
    put("expert_count", experts)
    put("expert_used_count", get("num_experts_per_tok"))
    put("expert_feed_forward_length", get("moe_intermediate_size"))
    parameters = get("rope_parameters") or {}
    put("rope.freq_base", float(parameters.get("rope_theta") or get("rope_theta")))
    scaling = get("rope_scaling") or {}
    if scaling:
        put("rope.scaling.type", "yarn")
        put("rope.scaling.factor", float(scaling["factor"]))
        put("rope.scaling.original_context_length", scaling["original_max_position_embeddings"])
        put("rope.scaling.yarn_beta_fast", float(scaling["beta_fast"]))
        put("rope.scaling.yarn_beta_slow", float(scaling["beta_slow"]))
        if "mscale_all_dim" in scaling:
            put("rope.scaling.yarn_log_multiplier", 0.1 * scaling["mscale_all_dim"])
    if mla:
        put("attention.q_lora_rank", get("q_lora_rank"))
        put("attention.kv_lora_rank", get("kv_lora_rank"))
        put("attention.key_length", c["kv_lora_rank"] + c["qk_rope_head_dim"])
        put("attention.value_length", c["kv_lora_rank"])
        put("attention.key_length_mla", c["qk_nope_head_dim"] + c["qk_rope_head_dim"])
        put("attention.value_length_mla", c["v_head_dim"])
        put("rope.dimension_count", c["qk_rope_head_dim"])
        put("vocab_size", get("vocab_size"))
    else:
        head_dim = get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
        put("attention.key_length", head_dim)
        put("attention.value_length", head_dim)
        put("rope.dimension_count", int(head_dim * get("partial_rotary_factor", 1)))
    if arch in ("deepseek2", "glm4moe"):
        put("leading_dense_block_count", get("first_k_dense_replace"))
        put("expert_shared_count", get("n_shared_experts"))
        put("expert_weights_scale", float(get("routed_scaling_factor")))
        put("expert_gating_func", 2 if get("scoring_func", "sigmoid") == "sigmoid" else 1)
        put("expert_group_count", get("n_group"))
        put("expert_group_used_count", get("topk_group"))
        if get("norm_topk_prob"):
            put("expert_weights_norm", True)
        put("nextn_predict_layers", n_layer - c["num_hidden_layers"])
    put("expert_shared_feed_forward_length", get("shared_expert_intermediate_size"))
    if arch in ("llama", "gpt-oss"):
        put("attention.sliding_window", get("sliding_window"))
    if arch == "gpt-oss":
        put("expert_feed_forward_length", get("intermediate_size"))
    for hf, key in (("embedding_multiplier", "embedding_scale"),
                    ("attention_multiplier", "attention.scale"),
                    ("residual_multiplier", "residual_scale"), ("logits_scaling", "logit_scale")):
        put(key, get(hf))
    eos = get("eos_token_id")
    eos = eos if isinstance(eos, list) else [eos]
    for key, value in (("bos", get("bos_token_id")), ("eos", eos[0])):
        if value is not None:
            kv[f"tokenizer.ggml.{key}_token_id"] = (U32, value)
    return kv


def add_tokenizer(kv, folder, pre):
    path = folder + "/tokenizer.json"
    opened = open(path, "rb") if os.path.exists(path) else lzma.open(path + ".xz")
    with opened as f:
        doc = json.load(f)
    with open(folder + "/tokenizer_config.json") as f:
        config = json.load(f)
    ids = {i: (text, 1) for text, i in doc["model"]["vocab"].items()}
    ids |= {a["id"]: (a["content"], 3 if a["special"] else 4) for a in doc["added_tokens"]}
    tokens = [ids.get(i, (f"[PAD{i}]", 5)) for i in range(max(ids) + 1)]
    text = {t: i for i, (t, _) in enumerate(tokens)}
    kv["tokenizer.ggml.model"] = (STRING, "gpt2")
    kv["tokenizer.ggml.pre"] = (STRING, pre)
    kv["tokenizer.ggml.tokens"] = (ARRAY, (STRING, [t for t, _ in tokens]))
    kv["tokenizer.ggml.token_type"] = (ARRAY, (I32, [kind for _, kind in tokens]))
    merges = [m if isinstance(m, str) else " ".join(m) for m in doc["model"]["merges"]]
    kv["tokenizer.ggml.merges"] = (ARRAY, (STRING, merges))
    for which in ("bos", "eos"):
        token = config.get(which + "_token")
        token = token["content"] if isinstance(token, dict) else token
        if token is not None:
            kv[f"tokenizer.ggml.{which}_token_id"] = (U32, text[token])
    if "add_bos_token" in config:
        kv["tokenizer.ggml.add_bos_token"] = (BOOL, config["add_bos_token"])
    if isinstance(config.get("chat_template"), str):
        kv["tokenizer.chat_template"] = (STRING, config["chat_template"])


# -- names --

ARCH = dict(qwen3_moe="qwen3moe", qwen2_moe="qwen2moe", deepseek_v3="deepseek2",
            deepseek_v2="deepseek2", mixtral="llama", olmoe="olmoe", gpt_oss="gpt-oss",
            glm4_moe="glm4moe", granitemoe="granitemoe")
MODEL = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
         "lm_head.weight": "output.weight"}
LAYER = dict([
    ("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"),
    ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"), ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"), ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"), ("self_attn.q_a_proj", "attn_q_a"),
    ("self_attn.q_b_proj", "attn_q_b"), ("self_attn.q_a_layernorm", "attn_q_a_norm"),
    ("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"), ("self_attn.kv_a_layernorm", "attn_kv_a_norm"),
    ("self_attn.kv_b_proj", "attn_kv_b"), ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"), ("mlp.gate", "ffn_gate_inp"), ("mlp.router", "ffn_gate_inp"),
    ("block_sparse_moe.gate", "ffn_gate_inp"), ("block_sparse_moe.router.layer", "ffn_gate_inp"),
    ("mlp.shared_expert_gate", "ffn_gate_inp_shexp"), ("eh_proj", "nextn.eh_proj"),
    ("enorm", "nextn.enorm"), ("hnorm", "nextn.hnorm"), ("embed_tokens", "nextn.embed_tokens"),
    ("shared_head.norm", "nextn.shared_head_norm"), ("shared_head.head", "nextn.shared_head_head"),
    ("block_sparse_moe.output_linear", "ffn_down_exps")])
for part in ("gate", "up", "down"):
    LAYER[f"mlp.shared_expert.{part}_proj"] = LAYER[f"mlp.shared_experts.{part}_proj"] = \
        f"ffn_{part}_shexp"
EXPERT = dict(gate_proj="gate", up_proj="up", down_proj="down", w1="gate", w3="up", w2="down")


def convert_layer(out, c, arch, layer, ts, kv_b_whole):
    """ts: the layer's tensors by what follows "model.layers.N."."""
    blk = f"blk.{layer}."
    groups = {}
    for rest, tensor in ts.items():
        base, _, suffix = rest.rpartition(".")
        parts = rest.split(".")
        if "experts" in parts and parts[parts.index("experts") + 1].isdigit():
            groups.setdefault(EXPERT[parts[-2]], {})[int(parts[-3])] = typed(tensor)
        elif rest.startswith("mlp.experts."):
            convert_gpt_oss(out, blk, parts[-1], ts)
        elif base.endswith("input_linear"):
            halves = [(s[1][0] // 2, s) for s in slices(typed(tensor))]
            out[blk + "ffn_gate_exps.weight"] = stacked([rows(s, range(n)) for n, s in halves])
            out[blk + "ffn_up_exps.weight"] = stacked([rows(s, range(n, 2 * n)) for n, s in halves])
        elif rest == "mlp.gate.e_score_correction_bias":
            out[blk + "exp_probs_b.bias"] = typed(tensor)
        elif rest == "self_attn.sinks":
            out[blk + "attn_sinks.weight"] = typed(tensor)
        elif base == "self_attn.kv_b_proj" and not kv_b_whole:
            n, nope, v = c["num_attention_heads"], c["qk_nope_head_dim"], c["v_head_dim"]
            t = typed(tensor)
            heads = [rows(t, range(h * (nope + v), (h + 1) * (nope + v))) for h in range(n)]
            out[blk + "attn_k_b.weight"] = stacked([transposed(rows(h, range(nope))) for h in heads])
            out[blk + "attn_v_b.weight"] = stacked([rows(h, range(nope, nope + v)) for h in heads])
        else:
            name = LAYER[base]
            if name == "ffn_norm" and arch in ("gpt-oss", "glm4moe"):
                name = "post_attention_norm"
            t = typed(tensor, f32=name.startswith("ffn_gate_inp"))
            if arch in ("llama", "granitemoe") and name in ("attn_q", "attn_k"):
                t = paired(t, c["num_attention_heads" if name == "attn_q" else "num_key_value_heads"])
            out[f"{blk}{name}.{suffix}"] = t
    for part, experts in groups.items():
        out[f"{blk}ffn_{part}_exps.weight"] = stacked([experts[e] for e in range(len(experts))])


def convert_gpt_oss(out, blk, name, ts):
    def split(t, part):
        return stacked([rows(s, range(part, s[1][0], 2)) for s in slices(t)])

    tensor = ts["mlp.experts." + name]
    fused = name.startswith("gate_up")
    stem = "gate_up_proj" if fused else "down_proj"
    if name.endswith("_scales"):
        return
    if name.endswith("_bias"):
        t, suffix = (F32, tensor[1], widen(tensor[2])), "bias"
    elif name.endswith("_blocks"):
        t, suffix = mxfp4(tensor, ts[f"mlp.experts.{stem}_scales"]), "weight"
    else:
        t, suffix = stacked([transposed(s) for s in slices(typed(tensor))]), "weight"
    if fused:
        out[f"{blk}ffn_gate_exps.{suffix}"] = split(t, 0)
        out[f"{blk}ffn_up_exps.{suffix}"] = split(t, 1)
    else:
        out[f"{blk}ffn_down_exps.{suffix}"] = t


def convert(folder, kv_b_whole):
    config, tensors = read_folder(folder)
    arch = ARCH[config["model_type"]]
    out, layers = {}, {}
    for name, tensor in tensors.items():
        if name in MODEL:
            out[MODEL[name]] = typed(tensor)
        else:
            layer, rest = name[len("model.layers."):].split(".", 1)
            layers.setdefault(int(layer), {})[rest] = tensor
    for layer, ts in sorted(layers.items()):
        convert_layer(out, config, arch, layer, ts, kv_b_whole)
    return metadata(config, arch, len(layers)), out


# -- the file --

def packed(kind, value):
    if kind == STRING:
        text = value.encode()
        return struct.pack("<Q", len(text)) + text
    if kind == ARRAY:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(packed(inner, x) for x in items)
    return struct.pack({U32: "<I", I32: "<i", FLOAT: "<f", BOOL: "<?", 2: "<H"}[kind], value)


def write(path, kv, tensors, version):
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(kv))
    for key, (kind, value) in kv.items():
        head += packed(STRING, key) + struct.pack("<I", kind) + packed(kind, value)
    data = bytearray()
    for name, (kind, shape, content) in tensors.items():
        head += packed(STRING, name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *reversed(shape)) + struct.pack("<IQ", kind, len(data))
        data += content
        data += bytes(-len(data) % 32)
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % 32) + data)


def main():
    folder, out = sys.argv[1:3]
    options = dict(a.split("=", 1) for a in sys.argv[3:])
    kv, tensors = convert(folder, options.get("kv_b") == "whole")
    if "tokenizer" in options:
        add_tokenizer(kv, *options["tokenizer"].split(","))
    version = int(options.get("version", 3))
    n = int(options.get("split", 1))
    if n == 1:
        write(out, kv, tensors, version)
        return
    names = sorted(tensors)
    for i in range(n):
        part = {name: tensors[name] for name in names[max(i - 1, 0)::n - 1]} if i > 0 else {}
        own = {"split.no": (2, i), "split.count": (2, n), "split.tensors.count": (I32, len(tensors))}
        write(f"{out}-{i + 1:05d}-of-{n:05d}.gguf", (kv if i == 0 else {}) | own, part, version)


main()
