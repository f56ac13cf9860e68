#!/usr/bin/env python3
"""Instructions per multiply-add of the decode and prefill kernels, counted by callgrind, against kernel_counts.txt.

    SHOAL_BUILD_DIR=build/dev tests/bench/bench_kernel_counts.py [--renew]

A case fails that takes over 10 % more instructions than its limit says. The counts are the avx2 kernels', the widest that valgrind
knows, and a compiler's: the file names the version, and with another this is a skip. --renew writes the file anew.
"""
import glob
import os
import shutil
import subprocess
import sys
import tempfile

FOLDER = os.path.dirname(os.path.abspath(__file__))
LIMITS = os.path.join(FOLDER, "kernel_counts.txt")
PROGRAM = os.path.join(os.environ["SHOAL_BUILD_DIR"], "tests", "bench", "kernel_counts")
KERNELS = "avx2"
ROOM = 1.10
UNAVAILABLE, SKIPPED = 69, 77


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def total(path):
    with open(path, encoding="utf-8") as file:
        lines = [line.split() for line in file if line.startswith("summary:")]
    return int(lines[0][1])


def measure():
    """(compiler version, {case: instructions per multiply-add})"""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        run = subprocess.run(["valgrind", "--tool=callgrind", "--toggle-collect=counted_case", "--dump-after=counted_case",
                              "--callgrind-out-file=" + out, PROGRAM, KERNELS],
                             stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
        if run.returncode == UNAVAILABLE:
            skip(f"no {KERNELS} kernels here under valgrind")
        if run.returncode != 0:
            sys.exit(f"kernel_counts under callgrind: exit status {run.returncode}\n{run.stderr}")
        compiler, *cases = [line.split(" ", 1) for line in run.stdout.splitlines()]
        totals = [total(f"{out}.{i + 1}") for i in range(len(cases))]
        assert not glob.glob(f"{out}.{len(cases) + 1}") or total(f"{out}.{len(cases) + 1}") == 0, "more counts than cases"
    return compiler[1], {name: instructions / int(macs) for (name, macs), instructions in zip(cases, totals)}


def read_limits():
    with open(LIMITS, encoding="utf-8") as file:
        lines = [line.split(" ", 1) for line in file.read().splitlines() if line and not line.startswith("#")]
    assert lines[0][0] == "compiler", f"{LIMITS}: the first line names the compiler"
    return lines[0][1], {name: float(value) for name, value in lines[1:]}


def write_limits(compiler, counts):
    with open(LIMITS, "w", encoding="utf-8") as file:
        file.write(f"# Instructions per multiply-add of the {KERNELS} kernels, kernel.format.tokens; see bench_kernel_counts.py.\n")
        file.write(f"compiler {compiler}\n")
        for name, count in counts.items():
            file.write(f"{name} {count:.4f}\n")


def main():
    if shutil.which("valgrind") is None:
        skip("no valgrind here (scripts/install-deps installs it on Debian)")
    compiler, counts = measure()
    if sys.argv[1:] == ["--renew"]:
        write_limits(compiler, counts)
        return
    wanted_compiler, limits = read_limits()
    if compiler != wanted_compiler:
        skip(f"the limits are those of gcc {wanted_compiler}, this is {compiler}")
    if limits.keys() != counts.keys():
        sys.exit(f"{LIMITS} has other cases than kernel_counts.c: {sorted(limits.keys() ^ counts.keys())}; --renew it")
    failed = [name for name in counts if counts[name] > ROOM * limits[name]]
    print(f"{'':24} instructions per multiply-add, limit, ratio")
    for name, count in counts.items():
        ratio = count / limits[name]
        remark = "  TOO MANY" if name in failed else "  fewer: --renew" if ratio < 2 - ROOM else ""
        print(f"{name:24} {count:.4f} {limits[name]:.4f} {ratio:.3f}{remark}")
    if failed:
        sys.exit(f"over {ROOM - 1:.0%} more instructions than the limit: {', '.join(failed)}")


main()
