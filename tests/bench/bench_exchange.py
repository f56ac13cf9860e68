#!/usr/bin/env python3
"""One layer's exchange beside a bare ping-pong: two ranks in shared memory, and on two hosts (network namespaces) over TCP.

    SHOAL_BUILD_DIR=build/release tests/bench/bench_exchange.py [rounds]

Figures are printed, never judged; the program itself checks the bytes on the wire.
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import hosts as network  # noqa: E402

PROGRAM = os.path.join(os.environ["SHOAL_BUILD_DIR"], "tests", "bench", "bench_exchange")
ROUNDS = sys.argv[1:] or ["30"]


def show(where, result):
    for line in result.stdout.splitlines():
        print(f"{where}: {line}", flush=True)
    if result.returncode != 0:
        sys.exit(f"{where}: exit status {result.returncode}\n{result.stderr}")


environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
show("shared memory", subprocess.run(["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "2", PROGRAM, *ROUNDS], env=environment,
                                     stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False))
REASON = network.missing_privilege()
if REASON:
    print(f"two hosts: left out, {REASON}")
else:
    with network.Hosts(2) as two:
        show("two hosts, TCP", two.mpirun([PROGRAM, *ROUNDS]))
