#!/usr/bin/env python3
"""shoal bench: it runs, and what it prints fits together. No speed is judged."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import *  # noqa: E402,F403


class Bench(ShoalTest):
    SMALL = ["--prompt-tokens", 16, "--gen-tokens", 4, "--repeat", 2]

    def test_json(self):
        need_mpirun()
        for np, more in ((0, []), (2, ["--sequences", 5, "--prefill-chunk", 20])):
            answer = self.expect(shoal("bench", DEMO, *self.SMALL, *more, "--json", np=np), OK).json
            for key in ("prefill_tok_per_s", "decode_tok_per_s", "read_bandwidth_gb_per_s", "read_bandwidth_fraction"):
                self.assertGreater(answer[key], 0, key)
            n_sequence = answer["sequences"]
            fraction = (answer["weight_bytes_per_step"] / n_sequence * answer["decode_tok_per_s"] / 1e9
                        / answer["read_bandwidth_gb_per_s"])
            self.assertAlmostEqual(answer["read_bandwidth_fraction"], fraction, delta=1e-6 * fraction)
            self.assertEqual(len(answer["ranks"]), max(np, 1))
            self.assertGreater(answer["phases"]["experts_us"], 0)
            # a warm-up and two runs of 16 tokens each
            self.assertEqual(sum(r["prompt_rows"] for r in answer["ranks"]), 3 * 16 * n_sequence)

    def test_for_people(self):
        run = self.expect(shoal("bench", DEMO, *self.SMALL), OK, "read bandwidth of rank 0")
        self.assertIn("decode_tok_per_s ", run.out)

    def test_context(self):
        self.expect(shoal("bench", DEMO, *self.SMALL, "--context", 20), USAGE, "--context")
        self.expect(shoal("bench", DEMO, "--prompt-tokens", 2000), USAGE, "1024")


main()
