#!/usr/bin/env python3
"""A build with SHOAL_CUDA=ON starts where there is no driver and no libnccl: it links neither, computes on the processor, and says what
--device cuda lacks. Wants nvcc, and ccache, without which it would compile the tree a second time."""
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import BUILD, DEMO, SOURCE, ShoalTest, environment, main, skip  # noqa: E402

FOLDER = os.path.join(BUILD, "cuda-build")


def build():
    """The binary. Compiled as the other one of this suite is, so that most of it comes from ccache; kernels for one device."""
    env = environment()
    env.setdefault("CCACHE_BASEDIR", SOURCE)
    env.setdefault("CCACHE_NOHASHDIR", "1")
    for command in (["cmake", "-S", SOURCE, "-B", FOLDER, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DSHOAL_SHARED=ON",
                     "-DSHOAL_RED_ZONES=ON", "-DSHOAL_CUDA=ON", "-DSHOAL_CUDA_ARCHITECTURES=89-real", "-DCMAKE_C_COMPILER_LAUNCHER=ccache",
                     "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache", "-DCMAKE_CUDA_COMPILER_LAUNCHER=ccache"],
                    ["cmake", "--build", FOLDER, "--target", "shoal", "cuda_programs", "-j", str(os.cpu_count())]):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
        if done.returncode != 0:
            print(done.stdout[-6000:])
            sys.exit(f"{command[:2]} failed")
    return os.path.join(FOLDER, "shoal")


class CudaBuild(ShoalTest):
    def run_it(self, *arguments, code=0, **env):
        run = subprocess.run([SHOAL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60,
                             env=environment(**env))
        self.assertEqual(run.returncode, code, run.stderr)
        return run

    def test_links_no_driver_and_no_nccl(self):
        for path in [SHOAL, *(os.path.join(folder, name) for folder, _, names in os.walk(FOLDER) for name in names if name.endswith(".so"))]:
            needed = subprocess.run(["readelf", "-d", path], stdout=subprocess.PIPE, text=True, check=True).stdout
            self.assertIsNone(re.search(r"NEEDED.*\[(libcuda|libcudart|libnccl|libnvidia)", needed), path)

    def test_starts_and_computes_on_the_processor(self):
        self.assertIn("shoal", self.run_it("--version").stdout)
        words = ["generate", DEMO, "--prompt", "In the beginning", "--max-tokens", "4"]
        self.assertEqual(self.run_it(*words, "--device", "cpu").stdout, self.run_it(*words, CUDA_VISIBLE_DEVICES="").stdout)

    def test_says_what_a_gpu_lacks(self):
        run = self.run_it("generate", DEMO, "--prompt", "a", "--device", "cuda", code=69, CUDA_VISIBLE_DEVICES="")
        self.assertIn("error", run.stderr)
        self.assertIn("driver", run.stderr)


if shutil.which("nvcc") is None or shutil.which("ccache") is None:
    skip("no nvcc or no ccache here, so a build with CUDA was not tried")
SHOAL = build()
main()
