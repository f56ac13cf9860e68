#!/usr/bin/env python3
"""shoal inspect: numbers that can be counted by hand."""
import os
import subprocess
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
        chosen = d["parameters_total"] - 5 * 12 * d["parameters_per_expert"]
        self.assertEqual(d["parameters_active_with_embedding"], chosen)
        self.assertEqual(d["parameters_active_without_embedding"], chosen - 4096 * 192)
        self.assertEqual(d["parameters_active"], d["parameters_active_without_embedding"])
        self.assertEqual(sum(d["classes"]["bytes"].values()), d["bytes_total"])
        header = read_safetensors(os.path.join(DEMO, "model.safetensors"))
        self.assertEqual(d["n_tensor"], len(header))

    def test_weights(self):
        """What --weights makes of the files: matrices of attention, experts and head, whole groups of 32 in bands of 16 rows."""
        native = self.expect(shoal("inspect", golden("qwen3_moe"), "--json"), OK).json
        for weights, group in (("bf16", 2 * 512), ("q8", 544), ("q4", 288)):
            d = self.expect(shoal("inspect", golden("qwen3_moe"), "--weights", weights, "--json"), OK).json
            self.assertEqual((d["weights"], d["bytes_from"]), (weights, "memory"))
            self.assertEqual(d["bytes_per_expert"], 3 * 32 * 64 // 512 * group)
            bytes_ = d["classes"]["bytes"]
            self.assertEqual(bytes_["lm_head"], 256 * 64 // 512 * group)
            for name in ("embed", "router", "norms"):
                self.assertEqual(bytes_[name], native["classes"]["bytes"][name])
            self.assertEqual(sum(bytes_.values()), d["bytes_total"])
        kept = self.expect(shoal("inspect", golden("gpt_oss-mxfp4"), "--weights", "q8", "--json"), OK).json
        as_stored = self.expect(shoal("inspect", golden("gpt_oss-mxfp4"), "--json"), OK).json
        self.assertEqual(kept["bytes_per_expert"], as_stored["bytes_per_expert"])

    def test_shards_are_the_same_model(self):
        one = self.expect(shoal("inspect", golden("qwen3_moe"), "--json"), OK).json
        many = self.expect(shoal("inspect", golden("qwen3_moe-sharded"), "--json"), OK).json
        self.assertNotEqual(one.pop("identity"), many.pop("identity"))
        self.assertEqual(one, many)

    def test_gguf(self):
        convert = os.path.join(SOURCE, "tests", "checkpoint", "gguf", "convert.py")
        for family in ("qwen3_moe", "granitemoe", "gpt_oss-mxfp4"):
            subprocess.run([sys.executable, convert, golden(family), self.path("model.gguf")], check=True)
            one = self.expect(shoal("inspect", self.path("model.gguf"), "--json"), OK).json
            other = self.expect(shoal("inspect", golden(family), "--json"), OK).json
            self.assertEqual(one["classes"]["parameters"], other["classes"]["parameters"])
            self.assertEqual(one["parameters_active"], other["parameters_active"])
            # norms, router and biases are f32 there
            for name in ("embed", "lm_head"):
                self.assertEqual(one["classes"]["bytes"][name], other["classes"]["bytes"][name], family)
            self.assertGreaterEqual(one["bytes_per_expert"], other["bytes_per_expert"])
            self.assertLess(one["bytes_per_expert"], 1.1 * other["bytes_per_expert"])
            self.assertEqual(one["storage"], "MXFP4" if "mxfp4" in family else "BF16")

    def test_for_people(self):
        run = self.expect(shoal("inspect", DEMO), OK)
        for text in ("deepseek_v3", "16 per layer", "4 per token", "experts", "kv cache"):
            self.assertIn(text, run.out)
        self.assertEqual(run.err, "")

    def test_without_weights(self):
        shutil.copy(os.path.join(DEMO, "config.json"), self.folder)
        d = self.expect(shoal("inspect", self.folder, "--json"), OK).json
        whole = self.expect(shoal("inspect", DEMO, "--json"), OK).json
        self.assertEqual((d["bytes_from"], whole["bytes_from"]), ("config", "files"))
        self.assertEqual(d["parameters_total"], whole["parameters_total"])
        for name in ("attention", "experts", "shared_experts", "dense_mlp", "embed"):
            self.assertEqual(d["classes"]["bytes"][name], whole["classes"]["bytes"][name], name)

    def test_config_announces_what_the_files_hold(self):
        for family in ("deepseek_v2-lite", "glm4_moe", "gpt_oss", "gpt_oss-mxfp4", "granitemoe", "mixtral", "olmoe",
                       "qwen2_moe", "qwen3_moe"):
            shutil.copy(golden(family, "config.json"), self.folder)
            told = self.expect(shoal("inspect", self.folder, "--json"), OK).json
            held = self.expect(shoal("inspect", golden(family), "--json"), OK).json
            told["classes"]["bytes"].pop("other"), held["classes"]["bytes"].pop("other")
            self.assertEqual(told["classes"], held["classes"], family)
            self.assertEqual(told["bytes_per_expert"], held["bytes_per_expert"], family)

    def test_published(self):
        """What the publishers state: G parameters, G active, and where they state it, GB of files."""
        published = {
            "DeepSeek-V3": (671.0, 36.6, 688.6), "DeepSeek-V2-Lite": (15.7, 2.4, 31.4), "Qwen3-30B-A3B": (30.5, 3.3, 61.1),
            "Mixtral-8x7B": (46.7, 12.9, 93.4), "gpt-oss-120b": (116.8, 5.1, 65.2), "OLMoE-1B-7B": (6.9, 1.3, 13.8)}
        for name, (total, active, size) in published.items():
            d = self.expect(shoal("inspect", os.path.join(SOURCE, "tests", "configs", name), "--json"), OK).json
            self.assertAlmostEqual(d["parameters_total"] / 1e9, total, delta=0.051, msg=name)
            self.assertAlmostEqual(d["parameters_active"] / 1e9, active, delta=0.055, msg=name)
            self.assertAlmostEqual(d["bytes_total"] / 1e9, size, delta=0.1, msg=name)

    def test_deepseek_v3_by_hand(self):
        d = self.expect(shoal("inspect", os.path.join(SOURCE, "tests", "configs", "DeepSeek-V3"), "--json", "--ranks",
                              "1,3"), OK).json
        expert = 3 * 7168 * 2048
        self.assertEqual(d["parameters_per_expert"], expert)
        self.assertEqual(d["bytes_per_expert"], expert + 4 * expert // 128 ** 2)
        self.assertEqual(d["classes"]["bytes"]["experts"], 58 * 256 * d["bytes_per_expert"])
        # one position: kv_lora_rank and the rotated part, of 61 layers
        self.assertEqual(d["kv_bytes_per_token"]["bf16"], 2 * 61 * (512 + 64))
        # the MTP layer: its own MoE layer, and a matrix over embedding and hidden state
        self.assertGreater(d["parameters_mtp"], 256 * expert + 2 * 7168 ** 2)
        self.assertAlmostEqual(d["parameters_mtp"] / 1e9, 11.6, delta=0.05)
        one, three = d["ranks"]
        self.assertEqual(one["bytes_per_rank"], [d["bytes_total"] - d["classes"]["bytes"]["other"]])
        self.assertEqual(len(three["bytes_per_rank"]), 3)
        self.assertEqual(sum(three["bytes_per_rank"]), 3 * three["replicated_bytes"] + d["classes"]["bytes"]["experts"])
        self.assertLessEqual(three["bytes_max"] - three["bytes_min"], 58 * d["bytes_per_expert"])

    def test_ranks(self):
        d = self.expect(shoal("inspect", DEMO, "--json", "--ranks", "2..4"), OK).json
        self.assertEqual([r["ranks"] for r in d["ranks"]], [2, 3, 4])
        for bad in ("0", "4..2", "1..", "..3", "1,,2", "1025", "1..2000", "x", "1,2..3", ""):
            self.expect(shoal("inspect", DEMO, "--ranks", bad), USAGE, "--ranks")

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
