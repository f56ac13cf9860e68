#!/usr/bin/env python3
"""Ranks as hosts: mpirun across network namespaces over TCP gives the bytes of one rank; a host that is cut off is named."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import hosts as network  # noqa: E402
from shoal_test import BINARY, DEMO, ShoalTest, golden, golden_expected, ids_text, main, read_safetensors, shoal, skip  # noqa: E402

TEXT = ["--prompt", "And it came to pass, when", "--max-tokens", "12"]


class Hosts(ShoalTest):
    def test_equal_to_one_rank(self):
        ids = ids_text(golden_expected("deepseek_v3")["prompt_ids"])
        one, three = self.path("one.safetensors"), self.path("three.safetensors")
        with network.Hosts(3) as hosts:
            for model in (DEMO, golden("deepseek_v3")):
                self.expect(shoal("logits", model, "--ids", ids, "--output", one), 0)
                out = hosts.mpirun([BINARY, "logits", model, "--ids", ids, "--output", three])
                self.assertEqual(out.returncode, 0, out.stderr)
                self.assertTrue(read_safetensors(one) == read_safetensors(three), "other bytes")

    def test_two_ranks_on_each_host(self):
        with network.Hosts(2) as hosts:
            out = hosts.mpirun([BINARY, "generate", DEMO, *TEXT], ranks_per_host=2)
            self.assertEqual(out.returncode, 0, out.stderr)
            self.assertEqual(out.stdout, shoal("generate", DEMO, *TEXT).out)
            self.assertIn("4 ranks", out.stderr)

    def test_lost_host_is_named(self):
        with network.Hosts(3) as hosts:
            out = hosts.mpirun([BINARY, "generate", DEMO, "--prompt", "Emma", "--max-tokens", "400", "--ignore-eos", "--deadline", "3",
                                "--fault", "rank=2,step=6,layer=3,do=drop"], timeout=60)
            self.assertEqual(out.returncode, 75, out.stderr)
            self.assertIn("rank 2 (fish3) is lost", out.stderr)
            self.assertEqual(hosts.pids(), [])


REASON = network.missing_privilege()
if REASON:
    skip(REASON)
main()
