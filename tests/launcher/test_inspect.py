#!/usr/bin/env python3
"""shoal inspect: numbers that can be counted by hand."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import *  # noqa: E402,F403


class Inspect(ShoalTest):
    def test_demo(self):
        d = self.expect(shoal("inspect", DEMO, "--json"), OK).json
        config = read_json(os.path.join(DEMO, "config.json"))
        self.assertEqual(d["architecture"], "deepseek_v3")
        self.assertEqual(d["n_layer"], config["num_hidden_layers"])
        self.assertEqual(d["n_moe_layer"], 5)
        self.assertEqual(d["n_mtp_layer"], 1)
        self.assertEqual(d["n_expert"], 16)
        self.assertEqual(d["top_k"], 4)
        # gate, up and down of 128 x 192, an e4m3 byte each, and a f32 scale per 128 x 128 block (2 blocks each)
        self.assertEqual(d["parameters_per_expert"], 3 * 128 * 192)
        self.assertEqual(d["bytes_per_expert"], 3 * (128 * 192 + 2 * 4))
        self.assertEqual(d["classes"]["bytes"]["experts"], 5 * 16 * d["bytes_per_expert"])
        self.assertEqual(d["classes"]["parameters"]["embed"], 4096 * 192)
        self.assertEqual(d["classes"]["bytes"]["embed"], 2 * 4096 * 192)
        # MLA keeps kv_lora_rank + rope values per layer
        self.assertEqual(d["kv_bytes_per_token"], {"f32": 6 * (64 + 16) * 4, "bf16": 6 * (64 + 16) * 2})
        parameters = d["classes"]["parameters"]
        self.assertEqual(d["parameters_total"], sum(parameters.values()))
        self.assertEqual(d["parameters_active"], d["parameters_total"] - 5 * 12 * d["parameters_per_expert"])
        self.assertEqual(sum(d["classes"]["bytes"].values()), d["bytes_total"])
        header = read_safetensors(os.path.join(DEMO, "model.safetensors"))
        self.assertEqual(d["n_tensor"], len(header))

    def test_shards_are_the_same_model(self):
        one = self.expect(shoal("inspect", golden("qwen3_moe"), "--json"), OK).json
        many = self.expect(shoal("inspect", golden("qwen3_moe-sharded"), "--json"), OK).json
        self.assertNotEqual(one.pop("identity"), many.pop("identity"))
        self.assertEqual(one, many)

    def test_for_people(self):
        run = self.expect(shoal("inspect", DEMO), OK)
        for text in ("deepseek_v3", "16 per layer", "4 per token", "experts", "kv cache"):
            self.assertIn(text, run.out)
        self.assertEqual(run.err, "")

    def test_without_weights(self):
        shutil.copy(os.path.join(DEMO, "config.json"), self.folder)
        d = self.expect(shoal("inspect", self.folder, "--json"), OK).json
        self.assertEqual(d["bytes_total"], 0)
        self.assertGreater(d["parameters_total"], 8_000_000)

    def test_unsupported(self):
        config = read_json(os.path.join(DEMO, "config.json"))
        config["model_type"] = "mamba"
        self.write("config.json", json.dumps(config))
        self.expect(shoal("inspect", self.folder), BAD_DATA, "mamba", "deepseek_v3")

    def test_one_rank_speaks(self):
        need_mpirun()
        run = self.expect(shoal("inspect", DEMO, "--json", np=2), OK)
        self.assertEqual(run.out, shoal("inspect", DEMO, "--json").out)


main()
