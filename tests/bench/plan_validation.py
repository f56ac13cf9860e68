#!/usr/bin/env python3
"""How far `shoal plan` is from `shoal bench`: over 1 to 4 hosts (network namespaces of this machine), one rank each, and links of
several rates.

    SHOAL_BUILD_DIR=build/release tests/bench/plan_validation.py [--hosts 1,2,3,4] [--rates 100mbit,1gbit,none] [--sequences 1,4]
                                                                 [--rounds 2] [--keep FOLDER] [--print]

For every number of hosts and rate, in turn: `shoal probe` over the hosts, `shoal bench` of a random model (made once, 380 M
parameters, q4 in memory), and `shoal plan --probe` of the same; the next round does all of it again. What was measured and
predicted is kept in FOLDER (build/plan-validation) as a file each; the table of all files there is printed as Markdown: measured is
the best of the rounds, predicted the median. --print only prints it. The machine should be quiet.

Hosts share its cores. With more hosts than cores ranks take turns, and what a probe finds then is how long a rank waits for its
turn. So such hosts are planned from the probe over as many hosts as there are cores (a rank each), which must be in the list before
them, as a cluster file whose ranks share the cores (--shared-cores).
"""
import argparse
import glob
import json
import os
import random
import statistics
import struct
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
import hosts as network  # noqa: E402

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, EXPERTS, TOP_K, INNER, VOCAB = 768, 12, 12, 4, 64, 32, 4, 384, 8000
SIZE = ["--prompt-tokens", "256", "--gen-tokens", "48", "--weights", "q4"]
SPEEDS = ("decode_tok_per_s", "prefill_tok_per_s")


def tensors():
    yield "model.embed_tokens.weight", (VOCAB, HIDDEN)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        for name, rows in (("q", HEADS * HEAD_DIM), ("k", KV_HEADS * HEAD_DIM), ("v", KV_HEADS * HEAD_DIM)):
            yield f"{at}self_attn.{name}_proj.weight", (rows, HIDDEN)
        yield at + "self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD_DIM)
        yield at + "mlp.gate.weight", (EXPERTS, HIDDEN)
        for expert in range(EXPERTS):
            for name, shape in (("gate", (INNER, HIDDEN)), ("up", (INNER, HIDDEN)), ("down", (HIDDEN, INNER))):
                yield f"{at}mlp.experts.{expert}.{name}_proj.weight", shape
        for name, n in (("self_attn.q_norm", HEAD_DIM), ("self_attn.k_norm", HEAD_DIM), ("input_layernorm", HIDDEN),
                        ("post_attention_layernorm", HIDDEN)):
            yield f"{at}{name}.weight", (n,)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCAB, HIDDEN)


def values(shape, rng, high):
    """bf16 of random sign and mantissa near 0.02; vectors are 1."""
    if len(shape) == 1:
        return b"\x80\x3f" * shape[0]
    n = shape[0] * shape[1]
    out = bytearray(2 * n)
    out[0::2] = rng.randbytes(n)
    out[1::2] = rng.randbytes(n).translate(high)
    return bytes(out)


def make_model(folder):
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "model.safetensors")
    if os.path.exists(path):
        return
    header, offset = {}, 0
    for name, shape in tensors():
        end = offset + 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng, high = random.Random(7), bytes((0x3c, 0xbc, 0x3b, 0xbb)[i % 4] for i in range(256))
    with open(path + ".part", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, shape in tensors():
            out.write(values(shape, rng, high))
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as out:
        json.dump({"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_act": "silu", "hidden_size": HIDDEN,
                   "intermediate_size": INNER * TOP_K, "moe_intermediate_size": INNER, "num_hidden_layers": LAYERS,
                   "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "num_experts": EXPERTS,
                   "num_experts_per_tok": TOP_K, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
                   "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "max_position_embeddings": 4096, "vocab_size": VOCAB,
                   "tie_word_embeddings": False, "attention_bias": False, "torch_dtype": "bfloat16", "bos_token_id": 1,
                   "eos_token_id": 2}, out, indent=1)
    os.replace(path + ".part", path)


def checked(result, what):
    if result.returncode != 0:
        sys.exit(f"{what}: exit status {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result.stdout


def cluster_file(path, n_host, found):
    """n_host hosts like those of a probe (its JSON), of which all share the cores: rates are those of all at once."""
    n_core = len(found["ranks"])
    mean = lambda of: statistics.mean(of) * n_core / n_host  # noqa: E731
    q4, f32 = ([r["formats"][name] for r in found["ranks"]] for name in ("q4", "f32"))
    links = [link for link in found["links"] if link["from"] != link["to"]]
    with open(path, "w", encoding="utf-8") as out:  # the fractions are those that a cluster file's peaks are multiplied with
        out.write(f"""network:
  gbit_per_s: {statistics.mean(link["gb_per_s"] for link in links) * 8 / 0.94}
  latency_us: {statistics.mean(link["latency_us"] for link in links)}
  overhead_us: {statistics.mean(link["overhead_us"] for link in links)}
hosts:
  - name: fish
    count: {n_host}
    cores: 1
    memory_gb: 8
    memory_bandwidth_gb_per_s: {mean(r["decode_gb_per_s"] for r in q4) / 0.88}
    int8_top_per_s: {mean(r["prefill_gop_per_s"] for r in q4) / 580}
    f32_tflop_per_s: {mean(r["prefill_gop_per_s"] for r in f32) / 900}
""")


def measure(space, a, model, rate, round_number):
    """Probe, bench and plan of one setting; kept in a file."""
    binary = os.path.join(os.environ["SHOAL_BUILD_DIR"], "shoal")
    threads = ["--threads", str(max(1, (os.cpu_count() or 1) // space.n))]
    for host in range(space.n if rate != "none" else 0):  # a bucket that holds a millisecond or less: a wire holds nothing
        space.limit(host, rate, queue="400ms", burst="12kb" if rate == "100mbit" else "64kb")
    at = os.path.join(a.keep, f"{space.n}-{rate}-{round_number}")
    cluster, found = ["--probe", at + ".probe"], None
    if space.n <= os.cpu_count():
        found = json.loads(checked(space.mpirun([binary, "probe", "--output", at + ".probe", "--json", *threads, "--quiet"],
                                                timeout=200), "probe"))
    else:
        with open(os.path.join(a.keep, f"{os.cpu_count()}-{rate}-{round_number}.json"), encoding="utf-8") as file:
            cluster_file(at + ".yaml", space.n, json.load(file)["probe"])
        cluster = ["--cluster", at + ".yaml"]
    bench = json.loads(checked(space.mpirun([binary, "bench", model, *SIZE, "--sequences", a.sequences, "--repeat", "2", *threads,
                                             "--cache", os.path.join(a.keep, "cache"), "--quiet", "--json"], timeout=300), "bench"))
    command = [binary, "plan", model, *cluster, *SIZE, "--sequences", a.sequences, "--ranks", str(space.n), "--shared-cores",
               str(os.cpu_count()), "--placement", "uniform", "--json"]
    plan = json.loads(checked(subprocess.run(command, capture_output=True, text=True, check=False), "plan"))[0]
    record = {"hosts": space.n, "rate": rate, "round": round_number, "probe": found, "bench": bench, "plan": plan}
    with open(at + ".json", "w", encoding="utf-8") as out:
        json.dump(record, out)


def cases_of(bench):
    return bench.get("cases", [bench])


def table(folder):
    """Rows {(hosts, rate, sequences): {speed: ([measured], [predicted])}} of all files, as Markdown."""
    rows = {}
    for path in glob.glob(os.path.join(folder, "*.json")):
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        predicted = {c["sequences"]: c for c in record["plan"]["cases"] if c["combine"] == "exact"}
        for case in cases_of(record["bench"]):
            row = rows.setdefault((record["hosts"], record["rate"], case["sequences"]), {s: ([], []) for s in SPEEDS})
            for speed in SPEEDS:
                row[speed][0].append(case[speed])
                row[speed][1].append(predicted[case["sequences"]][speed])
    print("| hosts | link | sequences | decode, tok/s: measured | predicted | off by | prefill, tok/s: measured | predicted | off by |")
    print("|--|--|--|--|--|--|--|--|--|")
    worst, within, n = 0, 0, 0
    for (n_host, rate, sequences), row in sorted(rows.items(), key=lambda item: (item[0][0], ["100mbit", "1gbit", "none"].index(item[0][1])
                                                                                  if item[0][1] in ("100mbit", "1gbit", "none") else 9,
                                                                                  item[0][2])):
        text = f"| {n_host} | {'unlimited' if rate == 'none' else rate} | {sequences} |"
        for speed in SPEEDS:
            found, said = max(row[speed][0]), statistics.median(row[speed][1])
            off = said / found - 1
            worst, within, n = max(worst, abs(off)), within + (abs(off) <= 0.25), n + 1
            text += f" {found:.1f} | {said:.1f} | {100 * off:+.0f} % |"
        print(text)
    print(f"\n{within} of {n} within 25 %; the worst is off by {100 * worst:.0f} %.")


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--hosts", default="1,2,3,4")
    parser.add_argument("--rates", default="100mbit,1gbit,none")
    parser.add_argument("--sequences", default="1,4")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--keep", default=os.path.join(ROOT, "build", "plan-validation"))
    parser.add_argument("--print", action="store_true")
    a = parser.parse_args()
    a.keep = os.path.abspath(a.keep)
    reason = network.missing_privilege()
    if reason and not a.print:
        sys.exit(reason)
    model = os.path.join(a.keep, "model")
    if not a.print:
        make_model(model)
        for round_number in range(a.rounds):
            for n_host in map(int, a.hosts.split(",")):
                for rate in a.rates.split(","):
                    if n_host == 1 and rate != "none":
                        continue
                    with network.Hosts(n_host) as space:
                        measure(space, a, model, rate, round_number)
                    print(f"round {round_number + 1}: {n_host} hosts, {rate}", file=sys.stderr, flush=True)
    table(a.keep)


main()
