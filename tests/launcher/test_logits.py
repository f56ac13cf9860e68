#!/usr/bin/env python3
"""shoal logits: the goldens of both families, over ranks and chunk sizes."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import *  # noqa: E402,F403


FAMILIES = ("deepseek_v3", "deepseek_v3-fp8", "deepseek_v3-mtp", "qwen3_moe", "qwen3_moe-sharded")


class Logits(ShoalTest):
    def logits(self, family, name, *more, **how):
        e = golden_expected(family)
        run = shoal("logits", golden(family), "--ids", ids_text(e["prompt_ids"]), "--output", self.path(name), "--math", "f32",
                    *more, **how)
        self.expect(run, OK)
        with open(self.path(name), "rb") as file:
            return file.read()

    def test_goldens(self):
        for family in FAMILIES:
            self.logits(family, family)
            found = read_safetensors(self.path(family))
            wanted = read_safetensors(golden(family, "expected.safetensors"))
            self.assertEqual(set(found), {"logits", "final_hidden", "topk_expert", "topk_weight"})
            for name, reference in (("logits", "prompt_logits"), ("final_hidden", "final_hidden")):
                self.assertEqual(found[name][0], wanted[reference][0])
                largest = max(map(abs, wanted[reference][1]))
                worst = max(abs(a - b) for a, b in zip(found[name][1], wanted[reference][1]))
                self.assertLessEqual(worst, 2e-3 * largest, f"{family} {name}")
            shape, chosen = found["topk_expert"]
            self.assertEqual(shape, wanted["router_topk_idx"][0])
            k = shape[2]
            for row in range(0, len(chosen), k):  # the golden is sorted by expert, ours by the order chosen
                pairs = sorted(zip(chosen[row:row + k], found["topk_weight"][1][row:row + k]))
                self.assertEqual([p[0] for p in pairs], list(wanted["router_topk_idx"][1][row:row + k]))
                for (_, weight), reference in zip(pairs, wanted["router_topk_weight"][1][row:row + k]):
                    self.assertAlmostEqual(weight, reference, delta=1e-3)

    def test_the_same_bits(self):
        need_mpirun()
        for family in ("deepseek_v3-fp8", "qwen3_moe"):
            alone = self.logits(family, "alone")
            self.assertEqual(self.logits(family, "chunks", "--prefill-chunk", 7, "--threads", 2), alone)
            for np in (2, 3):
                self.assertEqual(self.logits(family, f"np{np}", "--prefill-chunk", 13, np=np), alone)

    def test_nothing_is_left_of_a_failed_run(self):
        run = shoal("logits", golden("qwen3_moe"), "--ids", "1,99999", "--output", self.path("out"))
        self.expect(run, USAGE, "vocabulary")
        run = shoal("logits", golden("qwen3_moe"), "--ids", "1,2", "--output", self.path("no/such/folder"))
        self.expect(run, FAILED, "no/such/folder")
        self.assertEqual(os.listdir(self.folder), [])


main()
