#!/usr/bin/env python3
"""Unequal ranks: two ranks of one thread, a core each; rank 1 is left a quarter of its core.

    SHOAL_BUILD_DIR=build/release tests/bench/bench_unequal.py MODEL [--rounds 3] [--weights q4] [--cache DIR] [--by neighbours|stop]

--by neighbours: three busy processes on its core, each in a session of its own, so that the scheduler gives each of the four a quarter, in slices.
--by stop: a helper stops rank 1 (SIGSTOP) for three quarters of every 2 ms and lets it go on for one. Needs root, for the helper's priority.

MODEL is one whose experts dominate (scripts/peers/mkmoe.py OUT --layers 8). Each round measures, one after the other
    probe      shoal probe --output F
    uniform    --placement uniform
    weighted   --placement weighted --probe F
prefill of two prompts of 512 tokens, and 16 decode steps of 32 sequences. The medians of all rounds count; beside them stands what the cost model
says of the same runs (shoal plan --probe F --placement ...): "recovered" is measured / predicted with weighted placement.
"""
import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

BINARY = os.path.join(os.environ.get("SHOAL_BUILD_DIR", "build/release"), "shoal")
CASES = (("prefill", 512, 2, 1), ("decode", 16, 32, 16))  # phase, prompt tokens, sequences, decode steps


def run(*command):
    out = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if out.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {out.returncode}\n{out.stderr}")
    return out


PERIOD_S, RUN_S = 2e-3, 0.5e-3


def rank_1_of(launcher):
    """The process of rank 1 among the children of mpirun, None if there is none yet."""
    children = subprocess.run(["pgrep", "-P", str(launcher)], stdout=subprocess.PIPE, text=True, check=False).stdout.split()
    for pid in children:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if b"\0OMPI_COMM_WORLD_RANK=1\0" in b"\0" + file.read():
                    return int(pid)
        except OSError:
            pass
    return None


def duty_cycle(launcher):
    """A helper process on core 1, of the highest priority: rank 1 of this mpirun runs RUN_S of every PERIOD_S."""
    os.sched_setaffinity(0, {1})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    while (pid := rank_1_of(launcher)) is None:
        time.sleep(0.02)
    due = time.monotonic()
    try:
        while True:
            for number, length in ((signal.SIGSTOP, PERIOD_S - RUN_S), (signal.SIGCONT, RUN_S)):
                os.kill(pid, number)
                due = max(due + length, time.monotonic())
                time.sleep(max(0, due - time.monotonic()))
    except ProcessLookupError:
        os._exit(0)


def two_ranks(by, *arguments):
    """Rank r on core r, rank 1 throttled."""
    command = ["mpirun", "-np", "2", "--bind-to", "core", "--map-by", "core", BINARY, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    helper = None
    if by == "stop":
        helper = os.fork()
        if helper == 0:
            duty_cycle(process.pid)
    out, err = process.communicate()
    if helper is not None:
        try:
            os.kill(helper, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(helper, 0)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {process.returncode}\n{err}")
    return subprocess.CompletedProcess(command, 0, out, err)


def case_options(n_prompt, n_sequence, n_gen):
    return ["--prompt-tokens", str(n_prompt), "--sequences", str(n_sequence), "--gen-tokens", str(n_gen), "--json"]


class Unequal:
    def __init__(self, a):
        self.a = a
        self.measured, self.predicted = {}, {}

    def add(self, found, phase, placement, speed):
        found.setdefault((phase, placement), []).append(speed)

    def one_round(self, path):
        ranks = json.loads(two_ranks(self.a.by, "probe", "--threads", "1", "--output", path, "--json").stdout)["ranks"]
        print("; ".join(f"rank {r['rank']}: reads {r['read_gb_per_s']:.2f} GB/s, {self.a.weights} one token "
                        f"{r['formats'][self.a.weights]['decode_gb_per_s']:.2f} GB/s, many "
                        f"{r['formats'][self.a.weights]['prefill_gop_per_s']:.1f} Gop/s" for r in ranks), flush=True)
        weights = ["--weights", self.a.weights]
        cache = ["--cache", self.a.cache] if self.a.cache else []
        for placement in ("uniform", "weighted"):
            chosen = ["--placement", placement]
            for phase, *sizes in CASES:
                key = f"{phase}_tok_per_s"
                plan = json.loads(run(BINARY, "plan", self.a.model, "--probe", path, "--ranks", "2", *weights, *chosen, *case_options(*sizes)).stdout)
                self.add(self.predicted, phase, placement, plan[0][key])
                out = two_ranks(self.a.by, "bench", self.a.model, "--repeat", "1", "--threads", "1", *weights, *cache, *chosen,
                                *(["--probe", path] if placement == "weighted" else []), *case_options(*sizes))
                self.add(self.measured, phase, placement, json.loads(out.stdout)[key])
                print(f"{phase} {placement}: {self.measured[phase, placement][-1]:.1f} tok/s, predicted {plan[0][key]:.1f}", flush=True)
                print("".join(line + "\n" for line in out.stderr.splitlines() if "placement weighted" in line), end="", flush=True)

    def report(self):
        for phase, *_ in CASES:
            uniform, weighted = (statistics.median(self.measured[phase, p]) for p in ("uniform", "weighted"))
            expected = statistics.median(self.predicted[phase, "weighted"])
            print(f"{phase}: uniform {uniform:.1f}, weighted {weighted:.1f} tok/s ({weighted / uniform:.2f} times); the cost model says "
                  f"{expected:.1f}: {100 * weighted / expected:.0f} % recovered")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", default="q4", choices=("bf16", "q8", "q4"))
    parser.add_argument("--cache")
    parser.add_argument("--by", default="neighbours", choices=("neighbours", "stop"))
    unequal = Unequal(parser.parse_args())
    # A session each: the scheduler's groups (autogroup) divide a core among sessions first.
    busy = [subprocess.Popen(["taskset", "-c", "1", "sh", "-c", "while :; do :; done"], start_new_session=True) for _ in range(3 if unequal.a.by == "neighbours" else 0)]
    try:
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(unequal.a.rounds):
                unequal.one_round(os.path.join(folder, "F"))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    unequal.report()


main()
