#!/usr/bin/env python3
"""scripts/bench-peers: the commands that it would run and the table that it makes; nothing is built or measured here."""
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import tempfile
import unittest

SOURCE = os.environ["SHOAL_SOURCE_DIR"]
SCRIPT = os.path.join(SOURCE, "scripts", "bench-peers")


def load():
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader("bench_peers", SCRIPT)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench_peers", loader))
    loader.exec_module(module)
    return module


class BenchPeers(unittest.TestCase):
    def setUp(self):
        self.script = load()
        self.peers = self.script.Peers("shoal", "python", "models", 4)

    def give(self, run, prefill, decode, bandwidth=None):
        """A measured result of every prompt length of the run."""
        self.peers.results[run].append({
            int(prompt): dict(prefill_tok_per_s=prefill, decode_tok_per_s=decode, read_bandwidth_fraction=bandwidth)
            for prompt in run.prompts.split(",")})

    def test_every_target_has_a_row(self):
        least = [row.least for row in self.script.rows() if row.least]
        self.assertEqual(sorted(least), sorted([1.6, 1.1, 4.0, 0.8, 4.0, 3.5, 2.5, 1.4, 2.0]))
        for row in self.script.rows():
            self.assertIn(str(row.prompt), row.of.prompts.split(","), row.name)
            self.assertIn(str(row.prompt), row.peer.prompts.split(","), row.name)
            self.assertGreater(row.of.ranks, 0)

    def test_commands_do_the_same_work(self):
        for row in self.script.rows():
            ours, theirs = self.peers.command(row.of), self.peers.command(row.peer)
            self.assertEqual(ours[ours.index("--sequences") + 1], theirs[theirs.index("--sequences") + 1])
            threads = int(ours[ours.index("--threads") + 1]) * row.of.ranks
            self.assertEqual(threads, int(theirs[theirs.index("--threads") + 1]) * max(row.peer.ranks, 1))
            self.assertEqual(ours[0] == "mpirun", row.of.ranks > 1)

    def test_table(self):
        row = self.script.rows()[0]
        for ours, theirs in ((100, 50), (120, 60), (90, 55)):
            self.give(row.of, 1000, ours, 0.8)
            self.give(row.peer, 500, theirs)
        line = self.script.markdown(self.peers, [row])[-1]
        self.assertEqual(line, "| decode, 1 sequence, q4 | 100.0 (90.0 .. 120.0) | 55.0 (50.0 .. 60.0) | 1.82 (>= 1.6) | 0.80 (>= 0.75) |")

    def test_missed_and_failed(self):
        row = self.script.rows()[0]
        self.give(row.of, 1000, 50, 0.5)
        self.assertIn("| failed |", self.script.markdown(self.peers, [row])[-1])
        self.give(row.peer, 1000, 50)
        line = self.script.markdown(self.peers, [row])[-1]
        self.assertIn("1.00 (>= 1.6, missed)", line)
        self.assertIn("0.50 (>= 0.75, missed)", line)

    def test_kernels_that_the_cpu_lacks(self):
        """A run that ends so is no failure, and is not tried again; another one is."""
        row = next(row for row in self.script.rows() if row.of.kernels == "avx512-bf16")
        with tempfile.TemporaryDirectory() as folder:
            self.peers.binary = os.path.join(folder, "shoal")
            for status, text in ((69, "kernels 'avx512-bf16' need AVX512_BF16, which this CPU lacks; use 'auto'"),
                                 (69, "rank 1 did not answer"), (1, "kernels 'x' need y, which this CPU lacks")):
                with open(self.peers.binary, "w", encoding="utf-8") as file:
                    file.write(f'#!/bin/sh\necho >>{folder}/runs\necho "[0 here] error: {text}" >&2\nexit {status}\n')
                os.chmod(self.peers.binary, 0o755)
                self.peers.lacking.clear()
                self.peers.measure(row.of)
                self.peers.measure(row.of)
                with open(f"{folder}/runs", encoding="utf-8") as file:
                    n_run = len(file.readlines())
                os.unlink(f"{folder}/runs")
                lacking = status == 69 and "CPU" in text
                self.assertEqual(n_run, 1 if lacking else 2)
                self.peers.results.pop(row.peer, None)
                self.give(row.peer, 63, 10)
                self.assertIn("| not on this CPU | 63.0 (" if lacking else "| failed | 63.0 (", self.script.markdown(self.peers, [row])[-1])
                self.assertEqual(self.peers.failed([row]), not lacking)

    def test_list(self):
        run = subprocess.run([SCRIPT, "--list", "--quick", "--only", "2 ranks"], capture_output=True, text=True, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertNotIn("q8", run.stdout)


unittest.main(verbosity=1)
