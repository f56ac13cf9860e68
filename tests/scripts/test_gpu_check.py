#!/usr/bin/env python3
"""scripts/gpu-check: everything once on the emulation; and on programs that fail, or do not end, what it then says and keeps."""
import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest

ROOT = os.environ["SHOAL_SOURCE_DIR"]
BUILD = os.environ["SHOAL_BUILD_DIR"]
sys.path.insert(0, os.path.join(ROOT, "scripts"))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
from gpu_check import report  # noqa: E402

DEVICE = '{"device": "Fish 1", "compute_capability": "8.9", "multiprocessors": 4, "memory_bytes": 1000000000, "free_bytes": 900000000, ' \
         '"driver": 12040, "runtime": 12040, "emulated": false}'
NUMBER = '{"number": "read_gb_per_s", "value": 1000}'
KERNEL = '{"part": "matmul", "kernel": "few", "format": "q4", "shape": "8 x 1024 x 2048", "tokens": 1, "us": 10, "gb_per_s": 790, ' \
         '"tflop_per_s": 1, "of": "read", "fraction": 0.79, "target": 0.8}'


def check(*arguments, env=None):
    return subprocess.run([sys.executable, os.path.join(ROOT, "scripts", "gpu-check"), *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=120, env=env)


class GpuCheck(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="shoal-test-")
        self.addCleanup(self.scratch.cleanup)
        self.folder = self.scratch.name

    def program(self, path, text):
        path = os.path.join(self.folder, "build", path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\n" + text)
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)

    def programs(self, matmul="exit 0", sweep="exit 0", shoal="exit 1"):
        """A build folder of stand-ins."""
        self.program("shoal", f'[ "$1" = --version ] && echo "shoal 0" && exit 0\n{shoal}\n')
        self.program("tests/cuda/test_cuda_few", sweep)
        self.program("tests/cuda/cuda_bench", f"echo '{DEVICE}'\necho '{NUMBER}'\n[ \"$2\" = yardsticks ] && exit 0\n"
                                              f"[ \"$2\" = matmul ] && echo '{KERNEL}' && {matmul}\nexit 0\n")
        return os.path.join(self.folder, "build")

    def found(self, name):
        with open(os.path.join(self.folder, "out", name), encoding="utf-8") as file:
            return file.read()

    def run_stand_ins(self, *arguments, code):
        run = check("--build", os.path.join(self.folder, "build"), "--output", os.path.join(self.folder, "out"), *arguments)
        self.assertEqual(run.returncode, code, run.stderr)
        return json.loads(self.found("fish-1.json")), self.found("fish-1.md")

    def test_emulated(self):
        run = check("--emulated", "--build", BUILD, "--output", self.folder)
        self.assertEqual(run.returncode, 0, run.stderr)
        with open(os.path.join(self.folder, "cuda-emulated-on-the-cpu.json"), encoding="utf-8") as file:
            record = json.load(file)
        self.assertTrue(record["emulated"])
        for name, part in record["parts"].items():
            self.assertEqual(part["status"], "ok", (name, part))
        self.assertTrue(record["parts"]["goldens"]["found"]["qwen3_moe"]["ok"])
        for kernel in record["parts"]["kernels"]["found"]:
            self.assertIsNone(kernel["us"], kernel)
        with open(os.path.join(self.folder, "cuda-emulated-on-the-cpu.md"), encoding="utf-8") as file:
            page = file.read()
        self.assertIn("Emulated: no speeds", page)
        self.assertIn("No target was measured", page)

    def test_says_why_it_cannot(self):
        with_nothing = {**os.environ, "PATH": os.path.dirname(sys.executable) if not os.path.exists(
            os.path.join(os.path.dirname(sys.executable), "nvidia-smi")) else "/nowhere"}
        run = check(env=with_nothing)
        self.assertEqual(run.returncode, 69, run.stderr)
        self.assertIn("no GPU", run.stderr)
        self.assertIn("--output", check("--emulated").stderr)
        run = check("--build", self.folder, "--output", self.folder)
        self.assertEqual(run.returncode, 2, run.stderr)
        self.assertIn("not built", run.stderr)
        self.assertIn("wanted some of device", check("--only", "nothing").stderr)

    def test_targets_are_judged_and_missed_ones_are_no_failure(self):
        self.programs()
        record, page = self.run_stand_ins("--only", "sweeps,kernels", code=0)
        self.assertEqual([part["status"] for part in record["parts"].values()], ["ok", "ok", "ok"])
        self.assertEqual(record["yardsticks"], {"read_gb_per_s": 1000})
        self.assertIn("0 of 1 targets are met", page)
        self.assertIn("**no**", page)
        self.assertNotIn("Emulated", page)

    def test_what_fails_is_kept_and_said(self):
        self.programs(matmul="echo broken >&2 && exit 3", sweep="echo 1 value is wrong; exit 1")
        record, page = self.run_stand_ins("--only", "sweeps,goldens,kernels", code=1)
        parts = record["parts"]
        self.assertEqual([parts[name]["status"] for name in ("sweeps", "goldens", "kernels")], ["failed"] * 3)
        self.assertIn("1 value is wrong", parts["sweeps"]["said"])
        self.assertIn("deepseek_v3: shoal logits ended with 1", parts["goldens"]["said"])
        self.assertIn("broken", parts["kernels"]["said"])
        self.assertEqual(parts["kernels"]["found"][0]["fraction"], 0.79)  # what came before
        self.assertIn("| sweeps | failed |", page)

    def test_what_does_not_end_is_ended(self):
        self.programs(matmul="sleep 60")
        record, _ = self.run_stand_ins("--only", "kernels,speed", "--minutes", "0.1", code=0)
        self.assertEqual(record["parts"]["kernels"]["status"], "out of time")
        self.assertEqual(record["parts"]["kernels"]["found"][0]["us"], 10)
        self.assertEqual(record["parts"]["speed"]["status"], "out of time")

    def test_names_of_files(self):
        self.assertEqual(report.slug("NVIDIA GeForce RTX 4090"), "nvidia-geforce-rtx-4090")


if __name__ == "__main__":
    unittest.main()
