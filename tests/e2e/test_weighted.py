#!/usr/bin/env python3
"""--placement weighted: the bits of one rank, whatever the shares are; all ranks agree on them; memory limits hold. No speed is judged."""
import os
import re
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from probe_file import write_probe  # noqa: E402
from shoal_test import *  # noqa: E402,F403

HOST = socket.gethostname()


class Weighted(ShoalTest):
    def logits(self, model, *options, np):
        path = self.path("x.safetensors")
        run = self.expect(shoal("logits", model, "--ids", ids_text(golden_expected("deepseek_v3")["prompt_ids"]), "--output", path, *options,
                                np=np), OK)
        return run, read_safetensors(path)

    def shares(self, run):
        """Percents of experts and sequences in the one line that says them."""
        lines = [line for line in run.err.splitlines() if "placement weighted: " in line]
        self.assertEqual(len(lines), 1, run)
        found = re.search(r"experts ((?:\d+ %(?:, )?)+); sequences ((?:\d+ %(?:, )?)+);", lines[0])
        self.assertTrue(found, lines[0])
        return [[int(n) for n in re.findall(r"(\d+) %", part)] for part in found.groups()]

    def test_measured_at_the_start(self):
        model = golden("deepseek_v3")
        _, one = self.logits(model, np=0)
        run, three = self.logits(model, "--placement", "weighted", np=3)
        self.assertTrue(one == three, "other bytes")
        experts, sequences = self.shares(run)
        self.assertEqual((len(experts), len(sequences)), (3, 3))
        self.assertAlmostEqual(sum(experts), 100, delta=2)
        self.assertIn("measured in", run.err)

    def test_shares_of_a_file(self):
        model = golden("deepseek_v3")
        _, one = self.logits(model, np=0)
        path = write_probe(self.path("F"), [HOST] * 3, [8, 2, 2])
        run, three = self.logits(model, "--placement", "weighted", "--probe", path, np=3)
        self.assertTrue(one == three, "other bytes")
        experts, _ = self.shares(run)
        self.assertGreater(experts[0], 1.5 * experts[1], run)
        self.assertIn(path, run.err)
        # the first ranks of a larger probe serve, too
        self.assertEqual(len(self.shares(self.logits(model, "--placement", "weighted", "--probe", path, np=2)[0])[0]), 2)

    def test_files_of_other_jobs(self):
        few = write_probe(self.path("few"), [HOST], [5])
        other = write_probe(self.path("other"), [HOST, "elsewhere"], [5, 5])
        broken = self.write("broken", "no probe")
        for path, code, text in ((few, USAGE, "has 1 ranks, this job has 2"), (other, BAD_DATA, "rank 1 on elsewhere"),
                                 (broken, BAD_DATA, "no probe"), ("/no/such/file", NO_INPUT, "/no/such/file")):
            run = self.expect(shoal("generate", DEMO, "--prompt", "a", "--placement", "weighted", "--probe", path, np=2), code, text)
            self.assertEqual(len(run.errors()), 1, run)
        run = shoal("generate", DEMO, "--prompt", "a", np=[["--placement", "weighted"], ["--placement", "uniform"]])
        self.expect(run, USAGE, "rank 1", "its --placement puts experts elsewhere")
        self.assertEqual(len(run.errors()), 1, run)
        self.expect(shoal("generate", DEMO, "--prompt", "a", "--probe", few), USAGE, "--probe needs --placement weighted")


main()
