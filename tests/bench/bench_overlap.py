#!/usr/bin/env python3
"""How much of the wire is hidden in prefill by parts in flight: two hosts (network namespaces), one rank each, a link of a given rate.

    SHOAL_BUILD_DIR=build/release tests/bench/bench_overlap.py MODEL RATE [rounds] [options of shoal bench]

RATE is tc's, e.g. 400mbit; choose it so that "wire" comes out about as long as "compute". Each round measures, one after the
other, prefill of two prompts
    compute   without limit, --overlap off
    both      limited,       --overlap off      wire = both - compute
    overlap   limited,       --overlap auto
and the best of all rounds counts: hidden = (both - overlap) / min(compute, wire).
"""
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import hosts as network  # noqa: E402

BINARY = os.path.join(os.environ["SHOAL_BUILD_DIR"], "shoal")
PROMPT = 512


def prefill_ms(two, model, overlap, options):
    out = two.mpirun([BINARY, "bench", model, "--prompt-tokens", str(PROMPT), "--sequences", "2", "--gen-tokens", "1", "--repeat", "1",
                      "--threads", "1", "--overlap", overlap, "--quiet", "--json", *options], timeout=300)
    if out.returncode != 0:
        sys.exit(f"exit status {out.returncode}\n{out.stderr}")
    return 2 * PROMPT / json.loads(out.stdout)["prefill_tok_per_s"] * 1e3


def main(model, rate, rounds="3", *options):
    reason = network.missing_privilege()
    if reason:
        sys.exit(reason)
    times = {"compute": [], "both": [], "overlap": []}
    with network.Hosts(2) as two:
        for _ in range(int(rounds)):
            for name, limit, overlap in (("compute", "100gbit", "off"), ("both", rate, "off"), ("overlap", rate, "auto")):
                for host in range(2):
                    two.limit(host, limit, queue="400ms")
                times[name].append(prefill_ms(two, model, overlap, options))
                print(f"{name}: {times[name][-1]:.0f} ms", flush=True)
    best = {name: min(values) for name, values in times.items()}
    wire = best["both"] - best["compute"]
    hidden = (best["both"] - best["overlap"]) / min(best["compute"], wire)
    print(f"{rate}: compute {best['compute']:.0f} ms, wire {wire:.0f} ms, one after the other {best['both']:.0f} ms, "
          f"overlapped {best['overlap']:.0f} ms: {100 * hidden:.0f} % of the shorter is hidden")


if len(sys.argv) < 3:
    sys.exit(__doc__)
main(*sys.argv[1:])
