#!/usr/bin/env python3
"""Device code compiled by nvcc for every device that it is meant for: no warnings, no spilled registers, and registers that leave
room for the threads of its launch bounds.

    tests/kernels/cuda/test_cuda_compile.py            the test
    tests/kernels/cuda/test_cuda_compile.py --table    what each kernel takes, as a table for docs/GPU.md
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.environ.get("SHOAL_SOURCE_DIR") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
DEVICES = ("86", "89", "90", "120")  # RTX 30, RTX 40, H100, RTX 50
YARDSTICKS = os.path.join(ROOT, "tests", "bench", "cuda", "yardsticks.cpp")  # what kernels are measured against
MOST_REGISTERS = 168  # 3 blocks of 128 threads on a multiprocessor of 65,536 registers


def compile_file(path, folder):
    """What ptxas says of a file: [(device, kernel, registers, spilled bytes)]."""
    command = ["nvcc", "-std=c++17", "-I", ROOT, "-x", "cu", "-c", path, "-o", os.path.join(folder, os.path.basename(path) + ".o"),
               "--fmad=false", "-Xptxas", "-v", "-Werror", "all-warnings", "--threads", "2",
               # one front end for all: what the oldest of them has is all that is used
               "-gencode", f"arch=compute_{DEVICES[0]},code=[{','.join('sm_' + device for device in DEVICES)}]"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        print(done.stdout)
        sys.exit(f"{os.path.relpath(path, ROOT)}: nvcc failed")
    found, kernel, device, spilled = [], None, None, 0
    for line in done.stdout.splitlines():
        if m := re.search(r"Compiling entry function '(\w+)' for 'sm_(\d+)'", line):
            kernel, device = m.groups()
        elif m := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
            spilled = int(m.group(1)) + int(m.group(2))
        elif m := re.search(r"Used (\d+) registers", line):
            found.append((device, kernel, int(m.group(1)), spilled))
    with open(path, encoding="utf-8") as f:
        has_kernels = "__global__" in f.read()
    if has_kernels and not found:
        sys.exit(f"{os.path.relpath(path, ROOT)}: nvcc said nothing of any kernel\n{done.stdout}")
    return found


def readable(kernel):
    """shoal's part of a mangled name: matmul_few<2,8>"""
    text = subprocess.run(["c++filt", kernel], stdout=subprocess.PIPE, text=True).stdout.strip() if shutil.which("c++filt") else kernel
    text = re.sub(r"\(anonymous namespace\)::|^void |\(int\)", "", text)
    return text.split("(")[0]


def main():
    if shutil.which("nvcc") is None:
        print("skipped: no nvcc here (the CUDA toolkit), so device code was only executed by the emulation")
        sys.exit(77)
    rows, wrong = {}, []
    with tempfile.TemporaryDirectory(prefix="shoal-nvcc-") as folder:
        for path in sorted(glob.glob(os.path.join(ROOT, "runtime", "kernels", "cuda", "*.cu"))) + [YARDSTICKS]:
            for device, kernel, registers, spilled in compile_file(path, folder):
                rows.setdefault((os.path.basename(path), readable(kernel)), {})[device] = registers
                if spilled > 0 or registers > MOST_REGISTERS:
                    wrong.append(f"{readable(kernel)} for sm_{device}: {registers} registers, {spilled} bytes spilled")
    if "--table" in sys.argv[1:]:
        print("| file | kernel | " + " | ".join(f"sm_{d}" for d in DEVICES) + " |")
        print("|--" * (2 + len(DEVICES)) + "|")
        for (name, kernel), of in sorted(rows.items()):
            print(f"| {name} | {kernel} | " + " | ".join(str(of.get(d, "")) for d in DEVICES) + " |")
    for text in wrong:
        print(text)
    print(f"{len(rows)} kernels for {len(DEVICES)} devices, {len(wrong)} with too many registers or spills")
    sys.exit(1 if wrong else 0)


main()
