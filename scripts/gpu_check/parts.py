"""The parts of gpu-check. A part is run(context, record): what it found, as JSON; it raises Skipped, Failed or OutOfTime."""
import collections
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from shoal_test import environment, ids_text, read_json, read_safetensors

CONFORMANCE = 2e-3  # of the largest logit: what the CPU's goldens are held to
FAST = 0.1          # of a row's length, the median row: rows are rounded to integers, and on tensor cores to bf16
EMULATED = "qwen3_moe"  # all that the emulation is asked for: some rows of it
FAMILIES = ("deepseek_v3", "qwen3_moe", "gpt_oss-mxfp4", "deepseek_v3-fp8", "deepseek_v2", "mixtral-swa", "glm4_moe", "gpt_oss",
            "qwen2_moe", "olmoe", "granitemoe", "mixtral", "deepseek_v2-lite", "glm4_moe-noqknorm")

Part = collections.namedtuple("Part", "name run")


class Skipped(Exception):
    """Cannot be done here; why."""


class Failed(Exception):
    """Something is wrong; found: what there is all the same."""

    def __init__(self, said, found=None):
        super().__init__(said)
        self.found = found


class OutOfTime(Failed):
    """The time of the part, or of all of them, was over."""


class Programs:
    """What a build folder holds. With the emulation the binary, the benchmark and the sweeps are those that are linked with it."""

    def __init__(self, folder, emulated):
        tests = os.path.join(folder, "tests")
        self.folder = folder
        self.shoal = os.path.join(tests, "shoal-emu") if emulated else os.path.join(folder, "shoal")
        self.bench = os.path.join(tests, "bench", "cuda_bench_emu") if emulated else os.path.join(tests, "cuda", "cuda_bench")
        sweeps = (os.path.join(tests, "kernels", "cuda", "test_kernels_cuda_device") if emulated else os.path.join(tests, "cuda", "test_cuda_*"))
        self.sweeps = sorted(path for path in glob.glob(sweeps) if os.access(path, os.X_OK))

    def all(self):
        return [self.shoal, self.bench, *(self.sweeps or ["the kernels' tests"])]


class Context:
    def __init__(self, root, programs, emulated, scratch, deadline):
        self.root, self.programs, self.emulated, self.scratch, self.deadline = root, programs, emulated, scratch, deadline

    def left(self):
        return self.deadline - time.monotonic()

    def run(self, command, limit, env=None, output=None):
        """(status, stdout, stderr) of a command; stdout goes to the file `output` if that is given. Raises OutOfTime."""
        limit = max(1.0, min(limit, self.left()))
        out = open(output, "w", encoding="utf-8") if output else subprocess.PIPE
        process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, text=True,
                                   env=env or environment(), start_new_session=True)
        try:
            said, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise OutOfTime(f"{os.path.basename(str(command[0]))} took over {limit:.0f} s") from None
        finally:
            if output:
                out.close()
        return process.returncode, said or "", err or ""

    def shoal(self, *arguments, ranks=None, limit=60):
        """Run the binary; ranks: for each rank its environment beside the common one, for mpirun. Its stdout; Failed if it fails."""
        command = [self.programs.shoal, *arguments]
        if ranks is not None:
            if shutil.which("mpirun") is None:
                raise Skipped("mpirun is not installed")
            one = [[*(x for k, v in env.items() for x in ("-x", f"{k}={v}")), "-np", "1", *command] for env in ranks]
            command = ["mpirun", "--oversubscribe", "--bind-to", "none", *one[0], *(x for app in one[1:] for x in (":", *app))]
        status, out, err = self.run(command, limit)
        if status != 0:
            errors = [line for line in err.splitlines() if "] error: " in line] or err.splitlines()[-3:]
            raise Failed(f"shoal {arguments[0]} ended with {status}: {' / '.join(errors)[:600]}")
        return out

    def golden(self, family, *path):
        return os.path.join(self.root, "tests", "golden", family, *path)


def lines_of(path):
    """The JSON objects of a file, a torn last line left out."""
    found = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                found.append(json.loads(line))
    return found


def bench_kernels(context, only, limit):
    output = os.path.join(context.scratch, f"{only}.jsonl")
    status, err, late = 0, "", None
    try:
        status, _, err = context.run([context.programs.bench, "--only", only], limit, output=output)
    except OutOfTime as out:
        late = out
    found = lines_of(output)
    if late is not None:
        raise OutOfTime(str(late), found)
    if status != 0:
        raise Failed(f"the benchmark ended with {status}: {err.strip()[:600]}", found)
    return found


def device(context, record):
    found = bench_kernels(context, "yardsticks", 60)
    record["device"] = found[0]
    numbers = {entry["number"]: entry["value"] for entry in found if "number" in entry}
    record["yardsticks"] = numbers
    return numbers


def sweeps(context, record):
    found = {}
    for path in context.programs.sweeps:
        name = os.path.basename(path)
        began = time.monotonic()
        status, out, err = context.run([path], 120)
        found[name] = {"ok": status == 0, "said": [line for line in out.splitlines() if "Checks:" in line][-1:],
                       "seconds": round(time.monotonic() - began, 1)}
        if status != 0:
            raise Failed(f"{name}: {(out + err).strip()[-600:]}", found)
    return found


def worst(got, want):
    """The largest difference over the largest value."""
    if len(got) != len(want):
        raise Failed(f"{len(got)} values, wanted {len(want)}")
    return max(abs(a - b) if a == a else float("inf") for a, b in zip(got, want)) / max(abs(x) for x in want)


def median_row(got, want, shape):
    """The difference of the median row, over its length."""
    apart = []
    for begin in range(0, shape[0] * shape[1], shape[1]):
        g, w = got[begin:begin + shape[1]], want[begin:begin + shape[1]]
        apart.append((sum((a - b) ** 2 for a, b in zip(g, w)) / sum(b * b for b in w)) ** 0.5)
    return sorted(apart)[len(apart) // 2]


def prompt_of(context, family):
    ids = read_json(context.golden(family, "expected.json"))["prompt_ids"]
    return ids_text(ids[:2] if context.emulated else ids)


def logits(context, family, *options):
    out = os.path.join(context.scratch, "logits.safetensors")
    context.shoal("logits", context.golden(family), "--ids", prompt_of(context, family), "--output", out, *options)
    return read_safetensors(out)


def text(context, family, *options, ranks=None):
    """The ids of a greedy text with --math f32."""
    n = 2 if context.emulated else len(read_json(context.golden(family, "expected.json"))["greedy_ids"])
    made = json.loads(context.shoal("generate", context.golden(family), "--prompt-ids", prompt_of(context, family), "--max-tokens", n,
                                    "--math", "f32", "--ignore-eos", "--json", *options, ranks=ranks))
    return made["ids"]


def same_choices(out, want):
    """Rows of the router's choice that have the same experts, and all rows. want: a golden's tensors, or our own."""
    (shape, got), (_, expected) = out["topk_expert"], want.get("router_topk_idx") or want["topk_expert"]
    k = shape[2]
    rows = range(0, len(got), k)
    return sum(set(got[r:r + k]) == set(expected[r:r + k]) for r in rows), len(rows)


def golden(context, family):
    """One family: logits as the reference's with --math f32, its choices and its text; with --math fast near the CPU's. The few rows that the
    emulation makes are compared with the CPU's."""
    f32, fast = ["--math", "f32"], ["--math", "fast", "--weights", "q4"]
    if context.emulated:
        want, greedy = logits(context, family, *f32, "--device", "cpu"), text(context, family, "--device", "cpu")
    else:
        want = read_safetensors(context.golden(family, "expected.safetensors"))
        greedy = read_json(context.golden(family, "expected.json"))["greedy_ids"]
    out = logits(context, family, *f32, "--device", "cuda")
    found = {"logits_away": worst(out["logits"][1], (want.get("prompt_logits") or want["logits"])[1])}
    same, n = same_choices(out, want)
    found["choices"] = [same, n]
    found["same_text"] = text(context, family, "--device", "cuda") == greedy
    shape, cpu = logits(context, family, *fast, "--device", "cpu")["logits"]
    found["fast_q4_away"] = median_row(logits(context, family, *fast, "--device", "cuda")["logits"][1], cpu, shape)
    found["ok"] = (found["logits_away"] <= CONFORMANCE and same == n and found["same_text"] and found["fast_q4_away"] <= FAST)
    return found


def goldens(context, record):
    found = {}
    for family in (EMULATED,) if context.emulated else FAMILIES:
        try:
            found[family] = golden(context, family)
        except Failed as failed:
            raise type(failed)(f"{family}: {failed}", found) from None
        if not found[family]["ok"]:
            raise Failed(f"{family}: {found[family]}", found)
    return found


def kernels(context, record):
    found = []
    for part, limit in (("matmul", 150), ("attention", 45), ("rows", 30)):
        try:
            found += [entry for entry in bench_kernels(context, part, limit) if "kernel" in entry]
        except Failed as failed:
            raise type(failed)(str(failed), found + [e for e in failed.found or [] if "kernel" in e]) from None
    return found


def ranks(context, record):
    """Two and three ranks on this GPU, which NCCL takes for three hosts without copies between them: what a cluster of PCs looks like."""
    found, alone = {}, text(context, EMULATED, "--device", "cpu")
    apart = [{"NCCL_HOSTID": f"shoal-{r}", "NCCL_SOCKET_IFNAME": "lo", "NCCL_P2P_DISABLE": "1", "NCCL_SHM_DISABLE": "1", "NCCL_MAX_NCHANNELS": "1"}
             for r in range(3)]
    for transport in ("mpi",) if context.emulated else ("mpi", "nccl"):
        for n in (2,) if context.emulated else (2, 3):
            try:
                found[f"{transport} {n}"] = text(context, EMULATED, "--device", "cuda:0", "--transport", transport, ranks=apart[:n]) == alone
            except Failed as failed:
                found[f"{transport} {n}"] = str(failed)
    if wrong := {name: said for name, said in found.items() if said is not True}:
        raise Failed("; ".join(f"{name} ranks: {'another text' if said is False else said}" for name, said in wrong.items()), found)
    return found


def mixed(context, record):
    """A GPU rank and a CPU rank; the second way round a CPU rank leads."""
    found, alone = {}, text(context, EMULATED, "--device", "cpu")
    for devices in ("cuda:0,cpu",) if context.emulated else ("cuda:0,cpu", "cpu,cuda:0"):
        found[devices] = text(context, EMULATED, "--device", devices, ranks=[{}, {}]) == alone
        if not found[devices]:
            raise Failed(f"--device {devices}: another text", found)
    return found


def bench_run(context, model, *options, limit):
    case = json.loads(context.shoal("bench", model, "--json", "--device", "cuda", *options, limit=limit))
    keep = ("prompt_tokens", "gen_tokens", "sequences", "prefill_tok_per_s", "decode_tok_per_s", "read_bandwidth_gb_per_s",
            "read_bandwidth_fraction")
    cases = [{key: one.get(key) for key in keep} for one in case.get("cases", [case])]
    if context.emulated:  # it has none
        return [{key: value if key in ("prompt_tokens", "gen_tokens", "sequences") else None for key, value in one.items()} for one in cases]
    return cases


def random_model(context):
    """scripts/peers/mkmoe.py's model of 1.7 billion parameters, kept in build/gpu-check."""
    folder = os.path.join(context.root, "build", "gpu-check", "moe")
    if not os.path.exists(os.path.join(folder, "config.json")):
        status, _, err = context.run([sys.executable, os.path.join(context.root, "scripts", "peers", "mkmoe.py"), folder], 120)
        if status != 0:
            shutil.rmtree(folder, ignore_errors=True)
            raise Skipped(f"the random model cannot be made: {(err.strip().splitlines() or [''])[-1]}")
    return folder


def speed(context, record):
    if context.emulated:
        return {EMULATED: bench_run(context, context.golden(EMULATED), "--prompt-tokens", "2", "--gen-tokens", "1", "--sequences", "1", "--repeat",
                                    "1", limit=60)}
    found = {"models/demo": bench_run(context, os.path.join(context.root, "models", "demo"), "--prompt-tokens", "128", "--sequences", "1,8",
                                      "--repeat", "2", limit=60)}
    try:
        model = random_model(context)
    except Skipped as skipped:
        found["random, 1.7 G"] = str(skipped)
        return found
    for weights in ("q4", "bf16"):
        try:
            found[f"random, 1.7 G, {weights}"] = bench_run(context, model, "--weights", weights, "--prompt-tokens", "512", "--gen-tokens", "64",
                                                           "--sequences", "1,32", "--repeat", "3", limit=90)
        except Failed as failed:
            raise type(failed)(str(failed), found) from None
    return found


PARTS = [Part("device", device), Part("sweeps", sweeps), Part("goldens", goldens), Part("kernels", kernels), Part("ranks", ranks),
         Part("mixed", mixed), Part("speed", speed)]
