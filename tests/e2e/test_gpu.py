#!/usr/bin/env python3
"""Ranks on GPUs, with the emulation in their place (tests/shoal-emu): the goldens in tolerance, mixed with CPU ranks, drafts, batches,
what is said of devices and memory, and what goes wrong. The emulation is slow: prompts are short."""
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import shoal_test  # noqa: E402
from shoal_test import *  # noqa: E402,F403

PART = sys.argv.pop(1)
CPU_BINARY, shoal_test.BINARY = shoal_test.BINARY, os.path.join(BUILD, "tests", "shoal-emu")
# The first four walk the code of all: MLA, fp8, sinks and windows and MXFP4, GQA.
GOLDENS = ["deepseek_v3", "deepseek_v3-fp8", "gpt_oss-mxfp4", "qwen3_moe", "deepseek_v2", "deepseek_v2-lite", "qwen2_moe", "mixtral",
           "mixtral-swa", "olmoe", "gpt_oss", "glm4_moe", "glm4_moe-noqknorm", "granitemoe"]
HOST = socket.gethostname()


def emulated(**config):
    """An environment whose GPUs are like this (tests/support/cuda_emu/emu.h)."""
    return environment(SHOAL_CUDA_EMU=",".join(f"{key}={value}" for key, value in config.items()))


class Gpu(ShoalTest):
    def logits(self, model, ids, *options, np=0, env=None):
        run = shoal("logits", model, "--ids", ids_text(ids), "--output", self.path("out"), *options, np=np, env=env)
        self.expect(run, OK)
        return read_safetensors(self.path("out"))

    def assertClose(self, got, want, tolerance):
        self.assertEqual(len(got), len(want))
        worst = max(abs(a - b) for a, b in zip(got, want))
        self.assertLessEqual(worst, tolerance * max(abs(x) for x in want))

    def assertSameChoice(self, got, want):
        """Experts of each row and layer, in any order."""
        (n_layer, n_row, k), expert = got["topk_expert"]
        for at in range(0, n_layer * n_row * k, k):
            self.assertEqual(set(expert[at:at + k]), set(want["topk_expert"][1][at:at + k]))


class Goldens(Gpu):
    """One GPU rank, --math f32: as the reference classes."""

    def check(self, name):
        expected = read_safetensors(golden(name, "expected.safetensors"))
        texts = golden_expected(name)
        out = self.logits(golden(name), texts["prompt_ids"], "--math", "f32", "--device", "cuda", "--prefill-chunk", 15)
        self.assertClose(out["logits"][1], expected["prompt_logits"][1], 2e-3)
        self.assertClose(out["final_hidden"][1], expected["final_hidden"][1], 2e-3)
        (_, _, k), want = expected["router_topk_idx"]
        for at in range(0, len(want), k):
            self.assertEqual(sorted(out["topk_expert"][1][at:at + k]), list(want[at:at + k]))
        if name not in ("deepseek_v3", "gpt_oss"):
            return
        run = shoal("generate", golden(name), "--prompt-ids", ids_text(texts["prompt_ids"]), "--max-tokens", 4, "--math", "f32",
                    "--ignore-eos", "--json", "--device", "cuda")
        self.expect(run, OK)
        self.assertEqual(run.json["ids"], texts["greedy_ids"][:4])


for golden_name in some(GOLDENS, 4):
    setattr(Goldens, "test_" + golden_name.replace("-", "_"), lambda self, name=golden_name: self.check(name))


class Mixed(Gpu):
    MODEL = golden("qwen3_moe")
    IDS = golden_expected("qwen3_moe")["prompt_ids"][:6]

    def test_memory_is_what_plan_says(self):
        """In the GPU and in its host's memory, to the byte, beside a cpu rank."""
        size = ["--sequences", 2, "--prompt-tokens", 3, "--gen-tokens", 1]
        cluster = self.write("mixed.yaml", "hosts: [{name: a, cores: 1, memory_gb: 16, memory_bandwidth_gb_per_s: 20, cpu: avx2, "
                                           "gpus: [{model: rtx4090}], ranks: [cuda, cpu]}]\n")
        run = shoal("bench", golden("qwen3_moe"), *size, "--threads", 1, "--repeat", 1, "--json", "--device", "cuda,cpu", np=2)
        self.expect(run, OK)
        said = [rank["memory"] for rank in run.json["ranks"]]
        run = shoal("plan", golden("qwen3_moe"), "--cluster", cluster, *size, "--placement", "uniform", "--ranks", 2, "--json")
        self.expect(run, OK)
        self.assertGreater(said[0]["device_bytes"], 0)
        self.assertEqual(run.json[0]["bytes_per_rank"], [said[0]["device_bytes"], said[1]["total_bytes"]])
        self.assertEqual(run.json[0]["host_bytes_per_rank"], [said[0]["total_bytes"] - said[0]["device_bytes"], 0])

    def test_any_mix_of_ranks(self):
        """Against CPU ranks, in both modes and with integer weights; the prompt in two chunks, with an expert-only rank."""
        uneven = self.write("placement.yaml", "ranks:\n  - { experts: 1, sequences: 1 }\n  - { experts: 2, sequences: 0 }\n"
                                              "  - { experts: 1, sequences: 1 }\n")
        mixes = (("cuda", []), ("cuda,cpu", []), ("cpu,cuda,cuda", ["--placement", uneven, "--prefill-chunk", 3]))
        for mode, tolerance, first in ((["--math", "f32"], 1e-3, 1), (["--weights", "q4"], 2e-2, 0)):
            want = self.logits(self.MODEL, self.IDS, *mode, "--device", "cpu")
            for devices, options in mixes[first:]:
                with self.subTest(mode=mode, devices=devices):
                    np = devices.count(",") + 1
                    got = self.logits(self.MODEL, self.IDS, *mode, "--device", devices, *options, np=np if np > 1 else 0,
                                      env=emulated(n_device=2))
                    self.assertClose(got["logits"][1], want["logits"][1], tolerance)
                    self.assertSameChoice(got, want)

    def test_drafts(self):
        """A GPU rank guesses with the MTP layer and verifies: the greedy text of a CPU rank."""
        prompt = ids_text(golden_expected("deepseek_v3-mtp")["prompt_ids"][:4])
        ids = []
        for devices, np in (("cpu", 0), ("cuda,cpu", 2)):
            run = shoal("generate", golden("deepseek_v3-mtp"), "--prompt-ids", prompt, "--max-tokens", 3, "--draft", "mtp", "--math",
                        "f32", "--ignore-eos", "--json", "--device", devices, np=np)
            self.expect(run, OK)
            ids.append(run.json["ids"])
        self.assertEqual(ids[0], ids[1])
        self.assertGreater(run.json["draft"]["proposed"], 0)
        self.assertEqual([rank["device"] for rank in run.json["ranks"]], ["cuda:0", "cpu"])

    def test_batch(self):
        """Two answers at a time, as CPU ranks give them; the command line names each rank's device by itself (MPMD)."""
        lines = [{"id": str(i), "prompt_ids": self.IDS[i:i + 3], "max_tokens": 2, "ignore_eos": True} for i in range(2)]
        write_lines(self.path("in"), lines)
        answers = []
        for out, np in (("a", [["--device", "cpu"], ["--device", "cpu"]]), ("b", [["--device", "cpu"], ["--device", "cuda:0"]])):
            run = shoal("batch", self.MODEL, "--input", self.path("in"), "--output", self.path(out), "--math", "f32", np=np)
            self.expect(run, OK)
            answers.append(sorted((line["id"], line["ids"]) for line in read_lines(self.path(out))))
        self.assertEqual(answers[0], answers[1])
        self.assertEqual(len(answers[0]), 2)

    def test_a_cache_serves_both(self):
        """What a GPU rank has packed is mapped by a CPU rank, and the other way round."""
        cache = self.path("cache")
        options = ["--weights", "q8", "--cache", cache]
        got = self.logits(self.MODEL, self.IDS[:2], *options, "--device", "cuda")
        run = shoal("generate", self.MODEL, "--prompt-ids", "1,2", "--max-tokens", 1, "--json", *options, "--device", "cpu")
        self.expect(run, OK)
        self.assertEqual(run.json["ranks"][0]["expert_bytes_read"], 0)
        again = self.logits(self.MODEL, self.IDS[:2], *options, "--device", "cuda", "--verify")
        self.assertTrue(again == got)

    def test_bench_and_weighted_shares(self):
        """Shares by what was measured with each rank's device; bench reads the GPU's own memory, and has no peak of it."""
        run = shoal("bench", golden("mixtral"), "--prompt-tokens", 4, "--gen-tokens", 1, "--repeat", 1, "--json", "--device", "cpu,cuda",
                    "--placement", "weighted", np=2, env=emulated(memory_bytes=16000000))
        self.expect(run, OK, "placement weighted: experts", "computes on cuda:0, CUDA emulated on the CPU")
        found = run.json
        self.assertEqual([rank["device"] for rank in found["ranks"]], ["cpu", "cuda:0"])
        self.assertEqual(found["ranks"][1]["device_memory_bytes"], 16000000)
        self.assertGreater(found["ranks"][1]["memory"]["device_bytes"], 0)
        self.assertGreater(found["ranks"][1]["memory"]["pinned_bytes"], 0)
        self.assertEqual(found["ranks"][0]["memory"]["device_bytes"], 0)
        self.assertGreater(found["read_bandwidth_gb_per_s"], 0)
        self.assertNotIn("decode_dot_peak_fraction", found)

    def test_check(self):
        run = shoal("check", golden("olmoe"), "--prompt-ids", "1,2", "--math", "f32", "--sequences", 2, "--device", "cpu,cuda", np=2)
        self.expect(run, OK)
        self.assertIn("equal: 2 ranks and one, within the tolerance of GPUs", run.out)


class Trouble(Gpu):
    MODEL = golden("deepseek_v3")

    def generate(self, *options, np=0, tokens=1, **config):
        return shoal("generate", self.MODEL, "--prompt-ids", "1,2", "--max-tokens", tokens, "--ignore-eos", *options, np=np,
                     env=emulated(**config))

    def test_there_is_no_such_gpu(self):
        for config, device, said in (({"n_device": 0}, "cuda", "sees no GPU"),
                                     ({"no_driver": 1}, "cuda:0", "no NVIDIA driver"),
                                     ({"driver_too_old": 1}, "cuda", "driver is too old"),
                                     ({"n_device": 2}, "cuda:2", "sees 2 GPUs")):
            run = self.generate("--device", device, **config)
            self.expect(run, UNAVAILABLE, f"rank 0 ({HOST}): --device {device}", said)
            self.assertEqual(len(run.errors()), 1, run)
        run = self.generate("--device", "auto", n_device=0)
        self.expect(run, OK, "computes on its processor")

    def test_a_build_without_gpus(self):
        shoal_test.BINARY, emu = CPU_BINARY, shoal_test.BINARY
        try:
            for device in ("cuda", "cuda:0"):
                self.expect(self.generate("--device", device), UNAVAILABLE, "-DSHOAL_CUDA=ON", "--device cpu")
            self.expect(self.generate("--device", "auto"), OK)
        finally:
            shoal_test.BINARY = emu

    def test_two_ranks_on_one_gpu(self):
        run = self.generate("--device", "cuda", np=2)
        self.expect(run, UNAVAILABLE, f"rank 1 ({HOST}): --device cuda", "rank 0's", "--device cuda:0")
        self.assertEqual(len(run.errors()), 1, run)
        self.expect(self.generate("--device", "cuda,cpu,cpu", np=2), USAGE, "lists 3 ranks")
        run = self.generate("--device", "cuda:0", np=2)  # it is meant
        self.expect(run, OK, f"rank 1 ({HOST}) computes on cuda:0")
        run = self.generate("--device", "auto", np=2)
        self.expect(run, OK, f"rank 0 ({HOST}) computes on cuda:0")
        self.assertNotIn(f"rank 1 ({HOST}) computes", run.err)

    def test_it_does_not_fit(self):
        """Said before anything is loaded, with what would fit; and what is advised works."""
        rank = self.expect(self.generate("--device", "cuda", "--json"), OK).json["ranks"][0]
        opened = rank["device_memory_bytes"] - rank["device_free_bytes"]
        tight = opened + rank["memory"]["device_bytes"] * 32 // 31 - 150000  # 404 kB are experts
        run = self.generate("--device", "cuda", memory_bytes=tight)
        self.expect(run, FAILED, f"rank 0 ({HOST}) needs ", " of cuda:0", "of the 32 experts", "of each layer",
                    "--device cuda,cpu --placement weighted", "memory of rank 0")
        self.assertNotIn("loaded", run.err.replace("while weights are loaded", ""))
        run = self.generate("--device", "cuda", "--sequences", 500, memory_bytes=tight + 12000000)
        self.expect(run, FAILED, "Even without experts", "--context", "--sequences (now 500)")
        run = self.generate("--device", "cuda,cpu", "--placement", "weighted", np=2, memory_bytes=tight)
        self.expect(run, OK, "placement weighted")

    def test_a_gpu_that_fails(self):
        """Its rank leaves with 69, the others are told and leave with 75: mpirun shows one of the two."""
        for step, devices, rank in ((1, "cpu,cuda,cpu", 1), (0, "cuda,cpu", 0)):
            with self.subTest(devices=devices):
                run = self.generate("--device", devices, "--deadline", 20, "--fault", f"rank={rank},step={step},layer=1,do=device",
                                    np=devices.count(",") + 1, tokens=20)
                self.assertIn(run.code, (UNAVAILABLE, TRY_AGAIN), run)
                self.assertLess(run.seconds, 19, run)
                self.assertIn(f"[{rank} {HOST}] error: cuda:0", run.err, run)
                self.assertIn(f"[{rank} {HOST}] error: rank {rank} ({HOST}) is lost: its device is unavailable", run.err, run)
                told = [line for line in run.errors() if "told by" in line]
                self.assertGreater(len(told), 0, run)
                for line in told:
                    self.assertIn(f"that rank {rank} ({HOST}) is lost (step {step}, layer 1): its device is unavailable", line, run)
        run = self.generate("--device", "cuda", "--fault", "rank=0,step=1,layer=0,do=device", tokens=5)
        self.expect(run, UNAVAILABLE, "has failed: an injected fault")

    def test_launch_starts_what_the_cluster_file_says(self):
        """A box with a GPU as two ranks; a GPU that fails is a loss, which may be tried again."""
        cluster = self.write("cluster.yaml", f"hosts:\n  - {{ name: {HOST}, cores: 2, memory_gb: 8, memory_bandwidth_gb_per_s: 20, cpu: avx2,"
                                             "\n      gpus: [{ model: rtx4090 }], ranks: [cuda, cpu] }\n"
                                             "launch:\n  mpirun_options: [--oversubscribe]\n")
        job = ["launch", "--cluster", cluster, "--", "generate", self.MODEL, "--prompt-ids", "1,2", "--max-tokens", 3, "--ignore-eos"]
        run = shoal(*job)
        self.expect(run, OK, f"rank 0 ({HOST}) computes on cuda:0")
        self.assertNotIn(f"rank 1 ({HOST}) computes on", run.err)
        run = shoal(*job, "--fault", "rank=0,step=1,layer=0,do=device")
        self.expect(run, TRY_AGAIN, f"launch: rank 0 ({HOST}) was lost", "its device is unavailable")

    def test_a_gpu_that_fails_while_loading(self):
        """All are told why, and leave together."""
        run = self.generate("--device", "cpu,cuda", np=2, lost_after=150)
        self.expect(run, UNAVAILABLE, f"rank 1 ({HOST}): device cuda:0", "check its power")
        self.assertEqual(len(run.errors()), 1, run)


parts = {"goldens": Goldens, "mixed": Mixed, "trouble": Trouble}
for name, case in parts.items():
    if name != PART:
        del globals()[case.__name__]
del case, Gpu
need_mpirun()
main()
