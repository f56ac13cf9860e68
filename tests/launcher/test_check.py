#!/usr/bin/env python3
"""shoal check: equal where it is equal, and a planted difference is found where it was planted. The agreement of the ranks looks at
headers and sizes, so a checkpoint with one other byte in a weight passes it."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import *  # noqa: E402,F403


def flip(path, tensor, n_bytes=1, bits=0x10):
    """Change the first bytes of a tensor in a safetensors file."""
    with open(path, "r+b") as file:
        n_header = struct.unpack("<Q", file.read(8))[0]
        first = json.loads(file.read(n_header))[tensor]["data_offsets"][0] + 8 + n_header
        file.seek(first)
        data = file.read(n_bytes)
        file.seek(first)
        file.write(bytes(b ^ bits for b in data))


class Check(ShoalTest):
    def equal(self, model, np, *more):
        d = self.expect(shoal("check", model, "--json", "--quiet", *more, np=np), OK).json
        self.assertTrue(d["equal"])
        self.assertEqual(d["ranks"], max(np, 1))
        self.assertNotIn("first", d)
        return d

    def planted(self, model, tensor, *more, **flipped):
        """What two ranks say, rank 1 with another byte in `tensor`."""
        other = self.path("other")
        shutil.copytree(model, other, dirs_exist_ok=True)
        flip(os.path.join(other, "model.safetensors"), tensor, **flipped)
        run = shoal("check", "--json", "--quiet", *more, np=[[model], [other]])
        self.expect(run, FAILED, "differ from one in layer")
        d = run.json
        self.assertFalse(d["equal"])
        return d["first"]

    def test_equal(self):
        need_mpirun()
        for np in some((3, 0, 2)):
            d = self.equal(DEMO, np)
            self.assertGreater(d["rows"], 6 * 8)
        self.equal(golden("qwen3_moe"), 3)
        self.equal(golden("gpt_oss"), 2)
        self.equal(DEMO, 3, "--combine", "reduced")
        self.equal(DEMO, 2, "--prefill-chunk", "5", "--threads", "2", "--sequences", "3")
        self.assertEqual(self.equal(DEMO, 2, "--prompt-ids", "5,6,7", "--sequences", "2")["rows"], 2 * (3 + 8))

    def test_for_people(self):
        need_mpirun()
        run = self.expect(shoal("check", DEMO, np=2), OK, "rank 0 first runs the whole model alone")
        self.assertIn("equal: 2 ranks and one, to the bit", run.out)

    def test_expert(self):
        need_mpirun()
        # of 16 experts in groups rank 1 of 2 has the upper half; with --math fast rounding hides it in some rows
        for math in some(("fast", "f32")):
            first = self.planted(DEMO, "model.layers.3.mlp.experts.11.down_proj.weight", "--math", math)
            self.assertEqual((first["layer"], first["stage"]), (3, "experts"))
            self.assertIn(11, first["experts"])
            self.assertLessEqual(len(first["experts"]), 2 if math == "f32" else 16)
            self.assertGreater(first["max_difference"], 0)
            self.assertGreater(first["rows"], 0)

    def test_expert_in_words(self):
        need_mpirun()
        other = self.path("other")
        shutil.copytree(golden("qwen3_moe"), other)
        flip(os.path.join(other, "model.safetensors"), "model.layers.2.mlp.experts.6.up_proj.weight", 64)
        run = self.expect(shoal("check", "--quiet", np=[[golden("qwen3_moe")], [other]]), FAILED)
        self.assertIn("differs: first in layer 2 (experts)", run.out)
        self.assertIn("expert 6 of rank 1", run.out)

    def test_expert_that_rank_1_does_not_have(self):
        need_mpirun()
        other = self.path("other")
        shutil.copytree(DEMO, other)
        flip(os.path.join(other, "model.safetensors"), "model.layers.3.mlp.experts.2.down_proj.weight")
        self.assertTrue(self.expect(shoal("check", "--json", "--quiet", np=[[DEMO], [other]]), OK).json["equal"])

    def test_replicated_weights(self):
        need_mpirun()
        for tensor, layer, stage in some((("model.layers.2.self_attn.o_proj.weight", 2, "attention"),
                                          ("model.layers.0.mlp.down_proj.weight", 0, "dense mlp"),
                                          ("model.layers.4.mlp.gate.weight", 4, "router"),
                                          ("model.norm.weight", 6, "logits")), 2):
            first = self.planted(DEMO, tensor, n_bytes=64, bits=0x01)
            self.assertEqual((first["layer"], first["stage"], first["rank"]), (layer, stage, 1), tensor)
            shutil.rmtree(self.path("other"))

    def test_reduced_finds_what_is_large(self):
        need_mpirun()
        first = self.planted(DEMO, "model.layers.3.mlp.experts.11.down_proj.weight", "--combine", "reduced", n_bytes=4096, bits=0x80)
        self.assertEqual((first["layer"], first["stage"]), (3, "experts"))

    def test_usage(self):
        self.expect(shoal("check", DEMO, "--prompt-ids", "4096"), USAGE, "--prompt-ids")
        self.expect(shoal("check", DEMO, "--prompt-ids", "1,2,3", "--context", "10"), USAGE, "context")
        self.expect(shoal("check", DEMO, "--prompt", "x"), USAGE, "--prompt")
        self.expect(shoal("check", self.path("nothing")), NO_INPUT)

    def test_lost_rank(self):
        need_mpirun()
        run = shoal("check", DEMO, "--fault", "rank=1,step=2,layer=3,do=exit", "--deadline", "5", np=2)
        self.assertNotEqual(run.code, OK, run)
        self.assertNotIn("equal", run.out)


main()
