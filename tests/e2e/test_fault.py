#!/usr/bin/env python3
"""A rank is lost (--fault) at several steps and layers: everything ends in time, stderr names the rank and its host, no process
is left, the status is one that DESIGN section 5 allows."""
import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import BINARY, DEMO, ShoalTest, main, need_mpirun, shoal  # noqa: E402

KIND = sys.argv.pop(1)
DEADLINE_S = 3
# mpirun itself speaks first when a rank dies; a silent rank is found by the others.
STATUS = {"kill": (137, 143, 75, 1), "exit": (1, 75, 143), "stop": (75,), "drop": (75,)}[KIND]


def processes(mark):
    """Processes of the binary with `mark` in their command line, zombies not counted."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            target = os.readlink(f"/proc/{pid}/exe")
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                line = file.read()
        except OSError:
            continue
        if target == os.path.realpath(BINARY) and mark in line:
            found.append(pid)
    return found


class Fault(ShoalTest):
    def strike(self, rank, step, layer, np):
        prompt = self.write("prompt", "And it came to pass, when")  # its path marks the processes of this test
        run = shoal("generate", DEMO, "--prompt-file", prompt, "--max-tokens", 400, "--ignore-eos", "--deadline", DEADLINE_S,
                    "--fault", f"rank={rank},step={step},layer={layer},do={KIND}", np=np, timeout=60)
        self.assertIn(run.code, STATUS, run)
        self.assertLess(run.seconds, DEADLINE_S + 25, run)
        host = socket.gethostname()
        named = f"rank {rank} ({host}) is lost" in run.err
        by_mpirun = f"process rank {rank} " in run.err or f",{rank}]" in run.err
        self.assertTrue(named or (KIND in ("kill", "exit") and by_mpirun), f"the lost rank is not named{run}")
        for other in range(np):
            if other != rank:
                self.assertNotIn(f"rank {other} ({host}) is lost", run.err, run)
        deadline = time.monotonic() + 5
        while processes(prompt) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertEqual(processes(prompt), [])

    def test_in_the_prefill(self):
        self.strike(1, 0, 1, 3)

    def test_at_the_first_layer(self):
        self.strike(2, 3, 0, 3)

    def test_in_decode(self):
        self.strike(1, 5, 4, 2)

    def test_rank_zero(self):
        self.strike(0, 4, 2, 3)


need_mpirun()
main()
