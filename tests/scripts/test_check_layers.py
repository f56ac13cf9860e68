#!/usr/bin/env python3
"""scripts/check-layers accepts the tree as it is and sees each violation that is planted."""
import os
import shutil
import subprocess
import sys
import tempfile

SOURCE = os.environ["SHOAL_SOURCE_DIR"]
CHECK = os.path.join(SOURCE, "scripts", "check-layers")
SUFFIXES = (".c", ".h", ".inc", ".cu", ".cuh", ".cpp", "CMakeLists.txt")

# file, line that is appended, what the check must say of it (None: it must accept it)
PLANTS = [
    ("comm/planted.c", '#include "experts/shard.h"', "comm may not include experts"),
    ("comm/mpi/planted.c", '#include "experts/shard.h"', "comm may not include experts"),
    ("experts/planted.c", '#include "comm/plan.h"', "experts may not include comm"),
    ("runtime/base/planted.h", '#include "runtime/kernels/kernels.h"', "may not include"),
    ("runtime/base/log.c", '#include "runtime/proto/placement.h"', "may not include"),
    ("runtime/kernels/cpu/planted.c", '#include "comm/wire.h"', "may not include comm"),
    ("runtime/model/planted.c", '#include "runtime/engine/engine.h"', "may not include"),
    ("runtime/model/planted.c", '#include "runtime/text/tokenizer.h"', "may not include"),
    ("runtime/engine/planted.c", '#include "runtime/text/tokenizer.h"', "may not include"),
    ("runtime/engine/planted.c", '# include   "launcher/options.h"', "may not include launcher"),
    ("runtime/text/planted.c", '#include "../base/log.h"', "from the repository root"),
    ("runtime/text/planted.c", '#include "runtime/base/gone.h"', "no such file"),
    ("runtime/text/planted.c", "#include PLANTED", "in quotes or angle brackets"),
    ("runtime/planted/x.c", '#include <stdio.h>', "belongs to no layer"),
    ("comm/planted.c", "#include <mpi.h>", "only comm/mpi"),
    ("comm/sim/planted.c", "#include <mpi.h>", "only comm/mpi"),
    ("launcher/planted.c", "#include <mpi.h>", "only comm/mpi"),
    ("launcher/planted.c", "#include <jansson.h>", "only runtime/base"),
    ("experts/planted.c", "#include <cyaml/cyaml.h>", "only runtime/base"),
    ("launcher/planted.c", "#include <hwloc.h>", "only runtime/base"),
    ("runtime/base/planted.c", "#include <pcre2.h>", "only runtime/text"),
    ("runtime/base/planted.c", "#include <utf8proc.h>", "only runtime/text"),
    ("runtime/engine/planted.c", "#include <protobuf-c/protobuf-c.h>", "only runtime/proto"),
    ("runtime/engine/planted.c", '#include "shoal.pb-c.h"', "only runtime/proto"),
    ("runtime/base/planted.c", "#include <check.h>", "only tests"),
    ("runtime/base/planted.c", "#include <curl/curl.h>", "without a door"),
    ("runtime/base/planted.c", "#include <glib.h>", "without a door"),
    ("comm/planted.c", 'const char *p(void) { return getenv("P"); }', "environment"),
    ("runtime/base/planted.c", 'char *p(void) { return secure_getenv("P"); }', "environment"),
    ("comm/planted.c", "void p(void) { exit(1); }", "only launcher/main.c"),
    ("runtime/base/planted.c", "void p(void) { abort(); }", "only launcher/main.c"),
    ("launcher/planted.c", "void p(void) { _exit(1); }", "only launcher/main.c"),
    ("launcher/planted.c", "void (*p)(int) = exit;", "only launcher/main.c"),
    ("comm/CMakeLists.txt", "shoal_library(shoal_comm SOURCES a.c USES shoal_experts)",
     "may not link experts"),
    ("runtime/base/CMakeLists.txt", "shoal_library(shoal_base SOURCES a.c\n  USES shoal_other)",
     "may not link it"),
    ("runtime/kernels/planted.c", "#include <cuda_runtime.h>", "only */cuda/*"),
    ("runtime/model/planted.h", "#include <cuda_fp16.h>", "only */cuda/*"),
    ("experts/planted.c", "#include <cuda.h>", "only */cuda/*"),
    ("runtime/kernels/cuda/planted.cu", '#include "comm/wire.h"', "may not include comm"),
    ("runtime/kernels/cuda/planted.cuh", '#include "experts/router.h"', "may not include experts"),
    ("runtime/kernels/cuda/planted.cpp", '#include "runtime/model/model.h"', "may not include runtime/model"),
    ("runtime/kernels/cuda/planted.cu", "#include <mpi.h>", "only comm/mpi"),
    ("runtime/kernels/cuda/planted.cpp", "#include <jansson.h>", "only runtime/base"),
    ("runtime/kernels/cuda/planted.cuh", "#include <thrust/sort.h>", "without a door"),
    ("runtime/kernels/cuda/planted.cpp", 'const char *p() { return getenv("P"); }', "environment"),
    ("runtime/kernels/cuda/planted.cu", "void p() { abort(); }", "only launcher/main.c"),
    ("runtime/kernels/cuda/planted.cu", "void p() { k<<<1, 32>>>(); }", "<<<: kernels are started by SHOAL_LAUNCH"),
    ("runtime/kernels/cuda/planted.cuh", "void p() { cudaLaunchKernel(k, 1, 32, 0, 0, 0); }",
     "cudaLaunchKernel: kernels are started by SHOAL_LAUNCH"),
    ("runtime/kernels/cuda/planted.cu", "__global__ void k() { __shared__ float x[32]; }", "comes from SHOAL_SHARED"),
    ("runtime/kernels/cuda/ptx.cuh", "static __device__ void p() { extern __shared__ int x[]; }", "comes from SHOAL_SHARED"),
    ("runtime/kernels/cuda/planted.cu", 'static __device__ void p() { asm volatile("bar.sync 0;"); }', "in ptx.cuh only"),
    ("runtime/kernels/cuda/launch.cuh", 'static __device__ void q() { __asm__("bar.sync 0;"); }', "in ptx.cuh only"),
    ("runtime/model/planted.cu", "__global__ void k() {}", "lie in folders named cuda"),
    ("experts/planted.cpp", "int p();", "lie in folders named cuda"),
    ("comm/mpi/planted.c", "#include <mpi.h>", None),
    ("runtime/kernels/cuda/planted.cu", "#include <cuda_runtime.h>", None),
    ("runtime/kernels/cuda/launch.cuh", "#define P(k) k<<<1, 1>>>()", None),
    ("runtime/kernels/cuda/ptx.cuh", 'static __device__ void p() { asm("bar.sync 0;"); }', None),
    ("runtime/kernels/cuda/planted.cu", '// k<<<1, 1>>>, __shared__, asm("")', None),
    ("launcher/bootstrap.c", "#include <mpi.h>", None),
    ("launcher/planted.c", 'const char *p(void) { return getenv("P"); }', None),
    ("launcher/main.c", "void p(void) { exit(1); }", None),
    ("comm/planted.c", "/* exit(1) and\n * getenv: #include <mpi.h> */ // abort()", None),
    ("comm/planted.c", 'const char *p = "exit(1) /* getenv"; int exit_code;', None),
    ("runtime/model/planted.c", '#include "comm/plan.h"\n#include <sys/stat.h>', None),
]


class Tree:
    """A copy of the sources with lines appended."""

    def __init__(self, folder):
        self.root = folder
        self.places = {}  # file:line -> (what was planted, what is wanted)
        for top in ("runtime", "comm", "experts", "launcher"):
            shutil.copytree(os.path.join(SOURCE, top), os.path.join(folder, top), ignore=lambda folder, names: [
                n for n in names
                if not n.endswith(SUFFIXES) and not os.path.isdir(os.path.join(folder, n))])

    def plant(self, path, line, wanted):
        full = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        before = ""
        if os.path.exists(full):
            with open(full, encoding="utf-8") as f:
                before = f.read()
        with open(full, "a", encoding="utf-8") as f:
            f.write("\n" + line + "\n")
        number = before.count("\n") + 2 + (line.count("\n") if path.endswith("CMakeLists.txt") else 0)
        if wanted is not None and (" no layer" in wanted or "folders named" in wanted):
            number = 1  # it is the file that is wrong
        place = f"{path}:{number}"
        assert place not in self.places, f"{place} twice"
        self.places[place] = (line, wanted)

    def check(self):
        """The exit status, what was said by place, and all of it."""
        done = subprocess.run([CHECK, self.root], capture_output=True, text=True, check=False)
        said = {}
        for line in done.stdout.splitlines():
            place, found, text = line.partition(": ")
            if found and ":" in place:
                said.setdefault(place, []).append(text)
        return done.returncode, said, done.stdout + done.stderr


def main():
    failures = []
    with tempfile.TemporaryDirectory(prefix="shoal-layers-") as folder:
        good, bad = Tree(os.path.join(folder, "good")), Tree(os.path.join(folder, "bad"))
        for path, line, wanted in PLANTS:
            (good if wanted is None else bad).plant(path, line, wanted)
        code, _, text = good.check()  # the tree as it is, and what must be accepted
        if code != 0:
            failures.append(f"refused (exit {code}):\n{text}")
        code, said, text = bad.check()
        if code != 1:
            failures.append(f"exit {code} with violations planted:\n{text}")
        for place, (line, wanted) in bad.places.items():
            if len(said.get(place, [])) != 1 or wanted not in said[place][0]:
                failures.append(f"{place}: {line}: wanted once: {wanted}: got {said.get(place)}")
        for place in sorted(set(said) - set(bad.places)):
            failures.append(f"{place}: nothing was planted there: {said[place]}")
    print("\n".join(failures + [f"{len(PLANTS)} plants, {len(failures)} failures"]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
