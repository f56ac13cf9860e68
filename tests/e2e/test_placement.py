#!/usr/bin/env python3
"""Placements: expert-only ranks, rank 0 without sequences, ranks without experts, more ranks than experts: the same bytes."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import DEMO, ShoalTest, golden, main, need_mpirun, read_safetensors, shoal  # noqa: E402

# (experts, sequences) of each rank
PLACEMENTS = {
    "expert-only ranks": [(1, 1), (1, 0), (2, 0)],
    "rank 0 holds no sequence": [(1, 0), (1, 1), (0.5, 1)],
    "rank 0 holds nothing": [(0, 0), (1, 1), (1, 0)],
    "attention here, experts there": [(0, 1), (1, 0), (1, 0)],
}


class Placement(ShoalTest):
    def placement(self, weights):
        lines = [f"  - {{ experts: {e}, sequences: {s} }}\n" for e, s in weights]
        return self.write("placement.yaml", "ranks:\n" + "".join(lines))

    def logits(self, model, *options, np=0):
        out = self.path("out.safetensors")
        self.expect(shoal("logits", model, "--ids", "5,6,7,8,9,10,11,12,13,14", "--output", out, *options, np=np), 0)
        return read_safetensors(out)

    def test_same_bytes(self):
        for model in (DEMO, golden("qwen3_moe")):
            first = self.logits(model)
            for name, weights in PLACEMENTS.items():
                with self.subTest(model=model, placement=name):
                    self.assertTrue(self.logits(model, "--placement", self.placement(weights), np=3) == first, "other bytes")

    def test_more_ranks_than_experts(self):
        model = golden("qwen3_moe")  # 8 experts
        self.assertTrue(self.logits(model, np=10) == self.logits(model), "other bytes")

    def test_expert_only_ranks_read_no_attention(self):
        run = shoal("generate", DEMO, "--prompt", "Emma", "--max-tokens", 4, "--json", "--placement",
                    self.placement([(0, 1), (1, 0)]), np=2)
        self.expect(run, 0)
        first, second = run.json["ranks"]
        self.assertEqual(first["expert_bytes_read"], 0)
        self.assertGreater(first["weight_bytes_read"], 0)
        self.assertEqual(second["expert_bytes_read"], second["weight_bytes_read"])
        self.assertGreater(second["expert_bytes_read"], 0)


need_mpirun()
main()
