#!/usr/bin/env python3
"""shoal plan: every example is planned, memory equals what a run prints, bytes those that a run sends, and it says what does not
fit and what would."""
import glob
import json
import os
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.environ["SHOAL_SOURCE_DIR"]
SHOAL = os.path.join(os.environ["SHOAL_BUILD_DIR"], "shoal")
V3 = os.path.join(ROOT, "tests/configs/DeepSeek-V3")
TWO = """hosts: [{name: a, cores: 2, memory_gb: 16, memory_bandwidth_gb_per_s: 20, cpu: avx512vnni, ranks: [cpu, cpu]}]
"""


def shoal(*args, code=0):
    run = subprocess.run([SHOAL, *args], capture_output=True, text=True, timeout=100)
    assert run.returncode == code, f"{args}: {run.returncode}\n{run.stdout}\n{run.stderr}"
    return run.stdout if code == 0 else run.stderr


def plan(model, cluster, *args):
    return json.loads(shoal("plan", model, "--cluster", cluster, "--json", *args))


class Plan(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.two = os.path.join(self.folder, "two.yaml")
        with open(self.two, "w", encoding="utf-8") as f:
            f.write(TWO)

    def tearDown(self):
        shutil.rmtree(self.folder)

    def test_every_example(self):
        for path in sorted(glob.glob(os.path.join(ROOT, "configs/cluster-*.yaml"))):
            for e in plan(os.path.join(ROOT, "tests/configs/Qwen3-30B-A3B"), path, "--ranks", "2", "--weights", "q4"):
                self.assertEqual(e["ranks"], 2, path)
                self.assertTrue(e["fits"], path)
                self.assertEqual(len(e["bytes_per_rank"]), 2)
                self.assertGreater(e["decode_tok_per_s"], 1)
                self.assertGreater(e["prefill_tok_per_s"], 1)
                self.assertIn(e["bound"], ("read bandwidth", "compute", "latency", "wire bytes", "PCIe bytes", "imbalance",
                                             "fixed costs"))

    def test_the_clusters_of_gaming_pcs(self):
        """Each example with the model that it is written for: it fits, no faster than its memory, and the GPU ranks hold the sequences."""
        for model, cluster, ranks, weights, least in (("Qwen3-235B-A22B", "cluster-4x4090-10gbe", 8, "q4", 5),
                                                      ("gpt-oss-120b", "cluster-8x3090-1gbe", 8, "native", 20),
                                                      ("DeepSeek-V3", "cluster-12x5090-192gb", 24, "q4", 5)):
            with self.subTest(model):
                e = plan(os.path.join(ROOT, "tests/configs", model), os.path.join(ROOT, f"configs/{cluster}.yaml"), "--ranks", str(ranks),
                         "--weights", weights, "--sequences", "1")[0]
                self.assertTrue(e["fits"])
                gpu = [r for r, device in enumerate(e["device"]) if device == "cuda"]
                self.assertEqual(len(gpu), {8: 8 if weights == "native" else 4, 24: 12}[ranks])
                self.assertGreater(e["decode_tok_per_s"], least)
                self.assertLess(e["decode_tok_per_s"], 100)
                self.assertGreater(e["prefill_tok_per_s"], e["decode_tok_per_s"])
                experts = sum(e["expert_weight"])
                self.assertGreater(sum(e["expert_weight"][r] for r in gpu), 0.2 * experts)
                # a sequence is on a GPU wherever there is a choice
                self.assertGreater(sum(e["sequence_weight"][r] for r in gpu), 0.8 * sum(e["sequence_weight"]))
                for r in gpu:
                    self.assertGreater(e["bytes_per_rank"][r], 1e9)

    def test_a_gpu_rank_takes_of_its_hosts_memory(self):
        """Embeddings and rows on their way: a cpu rank beside it has less room, and without one it must fit the host."""
        model = os.path.join(ROOT, "tests/configs/Qwen3-30B-A3B")
        host = "cores: 8, memory_bandwidth_gb_per_s: 50, cpu: avx2, gpus: [{model: rtx5090}]"
        path = os.path.join(self.folder, "gpu.yaml")

        def planned(text, ranks):
            with open(path, "w", encoding="utf-8") as f:
                f.write("hosts: [{name: a, " + text + "}]\n")
            return plan(model, path, "--weights", "q4", "--ranks", ranks)[0]

        beside = planned(f"{host}, memory_gb: 32, reserve_gb: 2, ranks: [cuda, cpu]", "2")
        taken = beside["host_bytes_per_rank"]
        self.assertGreater(taken[0], 151936 * 2048 * 2)  # the embedding in bf16, and buffers
        self.assertEqual(taken[1], 0)
        self.assertEqual(beside["room_bytes_per_rank"], [int(32.7e9), int(30e9) - taken[0]])
        alone = planned(f"{host}, memory_gb: 4, reserve_gb: 2", "1")
        self.assertTrue(alone["fits"])
        self.assertFalse(planned(f"{host}, memory_gb: {(alone['host_bytes_per_rank'][0] - 1e6) / 1e9 + 1}, reserve_gb: 1", "1")["fits"])
        self.assertTrue(planned(f"{host}, memory_gb: {(alone['host_bytes_per_rank'][0] + 1e6) / 1e9 + 1}, reserve_gb: 1", "1")["fits"])

    def test_memory_and_bytes_of_a_run(self):
        """The same numbers as the run says, from its weights; and from a config.json alone."""
        model = os.path.join(ROOT, "tests/golden/qwen3_moe")
        size = ["--sequences", "3", "--prompt-tokens", "20", "--gen-tokens", "12"]
        bare = os.path.join(self.folder, "bare")
        os.mkdir(bare)
        shutil.copy(os.path.join(model, "config.json"), bare)
        run = subprocess.run(["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "2", SHOAL, "bench", model, *size, "--threads",
                              "1", "--repeat", "1", "--json", "--kernels", "avx2"], capture_output=True, text=True, timeout=100)
        self.assertEqual(run.returncode, 0, run.stderr)
        bench = json.loads(run.stdout)
        for at in (model, bare):
            found = plan(at, self.two, *size, "--placement", "uniform", "--ranks", "2")[0]
            for r, rank in enumerate(bench["ranks"]):
                said = rank["memory"]
                for key, name in (("experts", "expert_bytes"), ("attention", "attention_bytes"), ("other_weights", "other_weight_bytes"),
                                  ("kv_cache", "kv_bytes"), ("exchange", "exchange_bytes"), ("step", "step_bytes"),
                                  ("engine", "engine_bytes")):
                    self.assertEqual(found["memory_bytes_by_class"][r][key], said[name], (at, r, key))
                self.assertEqual(found["bytes_per_rank"][r], said["total_bytes"])
            # Routing of random weights is near uniform; control and results are left out of the exchange.
            exchange = found["cases"][0]["decode"]["exchange_bytes_per_token"]
            self.assertGreater(bench["sent_bytes_per_token"], 0.9 * exchange)
            self.assertLess(bench["sent_bytes_per_token"], 1.15 * exchange + 200)

    def test_deepseek_v3_does_not_fit_8_x_24_gb(self):
        path = os.path.join(ROOT, "configs/cluster-8x3090-1gbe.yaml")
        found = plan(V3, path, "--ranks", "8", "--weights", "q4")[0]
        self.assertFalse(found["fits"])
        self.assertEqual(found["bound"], "memory")
        self.assertIsNone(found["decode_tok_per_s"])
        need = {a["weights"]: a for a in found["would_fit"]}
        self.assertFalse(need["q4"]["fits_here"])
        self.assertTrue(16 <= need["q4"]["ranks_needed"] <= 20, need)  # 380 GB in q4, 23 GB each
        self.assertNotIn("ranks_needed", need["bf16"])  # one rank's attention alone does not fit 24 GB
        self.assertGreater(need["bf16"]["source_bytes"], 25e9)
        text = shoal("plan", V3, "--cluster", path, "--ranks", "8")
        for words in ("It does not fit 8 ranks", "--weights q4", "planned hardware"):
            self.assertIn(words, text)

    def test_says_what_matters(self):
        text = shoal("plan", V3, "--cluster", os.path.join(ROOT, "configs/cluster-8-unified-192gb.yaml"), "--ranks", "4,8")
        self.assertIn("the fullest of 8 ranks reads 3.", text)
        self.assertIn("costs    a million tokens", text)
        self.assertIn("best     8 ranks", text)
        narrow = os.path.join(self.folder, "narrow.yaml")
        with open(narrow, "w", encoding="utf-8") as f:
            f.write("network: {gbit_per_s: 1}\nhosts: [{name: a, count: 4, cores: 64, memory_gb: 256, memory_bandwidth_gb_per_s: 300, "
                    "cpu: epyc9004}]\n")
        text = shoal("plan", os.path.join(ROOT, "tests/configs/Qwen3-30B-A3B"), "--cluster", narrow, "--weights", "q4")
        self.assertIn("next     2 ranks instead of 1", text)
        self.assertIn("more ranks hurt", text)
        text = shoal("plan", os.path.join(ROOT, "tests/configs/Qwen3-30B-A3B"), "--cluster", narrow, "--weights", "q4", "--ranks", "4")
        self.assertIn("prefill is bound by the wire", text)

    def test_simulate(self):
        words = ["plan", V3, "--cluster", os.path.join(ROOT, "configs/cluster-1024-nodes.yaml"), "--weights", "q4", "--simulate", "2",
                 "--ranks", "8,64", "--sequences", "1,16"]
        found = json.loads(shoal(*words, "--json"))
        self.assertEqual([(e["ranks"], e["sequences"]) for e in found], [(8, 1), (8, 16), (64, 1), (64, 16)])
        for e in found:
            self.assertEqual(e["layers"], 2)
            self.assertEqual(e["sources"], min(e["ranks"], e["sequences"]))
            self.assertEqual(e["dispatch_messages"], e["sources"] * (e["ranks"] - 1))
            self.assertEqual(e["header_bytes"], 32 * e["dispatch_messages"])
            parts = sum(e[f"{part}_us"] for part in ("attention", "send", "dispatch", "experts", "combine"))
            self.assertTrue(0.9 * e["layer_us"] < parts < 1.1 * e["layer_us"], e)
        self.assertIn("busiest", shoal(*words))
        self.assertIn("simulate", shoal(*words[:-5], "65", "--ranks", "8", code=2))

    def test_usage(self):
        self.assertIn("one of --cluster", shoal("plan", V3, code=2))
        self.assertIn("ascending numbers up to the 2", shoal("plan", V3, "--cluster", self.two, "--ranks", "3", code=2))
        self.assertIn("no such", shoal("plan", V3, "--cluster", "/nowhere.yaml", code=66).lower())
        self.assertIn("positions", shoal("plan", V3, "--cluster", self.two, "--prompt-tokens", "1000000", code=2))


if __name__ == "__main__":
    unittest.main()
