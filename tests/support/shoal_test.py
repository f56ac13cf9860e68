"""Helpers for tests that run the binary (python3, standard library only).

    from shoal_test import *
    class Inspect(ShoalTest):
        def test_json(self):
            run = shoal("inspect", DEMO, "--json")
            self.assertEqual(run.code, 0, run)
    main()

SHOAL_BUILD_DIR says where the binary is, SHOAL_SOURCE_DIR where the repository is; ctest sets both, and from a shell the defaults
are build/dev and the folder of this file. SHOAL_SANITIZED says that the binary has a sanitizer: it is many times slower then and
looks for errors in memory, so some() leaves out what would only walk the same code again, and @values what only compares numbers;
the release build runs all of it.
"""
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

SOURCE = os.environ.get("SHOAL_SOURCE_DIR") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("SHOAL_BUILD_DIR") or os.path.join(SOURCE, "build", "dev")
BINARY = os.path.join(BUILD, "shoal")
DEMO = os.path.join(SOURCE, "models", "demo")
GOLDEN = os.path.join(SOURCE, "tests", "golden")

SANITIZED = os.environ.get("SHOAL_SANITIZED") == "1"

OK, FAILED, USAGE, BAD_DATA, NO_INPUT, UNAVAILABLE, TRY_AGAIN = 0, 1, 2, 65, 66, 69, 75

# What says that a process was started by mpirun or srun; a test that is run inside one must not pass it on.
_LAUNCHER_PREFIXES = ("OMPI_COMM_WORLD_", "OMPI_UNIVERSE", "PMIX_", "PMI_", "SLURM_")


def environment(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith(_LAUNCHER_PREFIXES)}
    env.setdefault("OMPI_ALLOW_RUN_AS_ROOT", "1")
    env.setdefault("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    env.update(more)
    return env


def golden(family, *path):
    return os.path.join(GOLDEN, family, *path)


def golden_expected(family):
    return read_json(golden(family, "expected.json"))


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def read_lines(path):
    """The documents of a JSON lines file; every line must be whole."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert text == "" or text.endswith("\n"), f"{path}: torn last line"
    return [json.loads(line) for line in text.splitlines()]


def write_lines(path, documents):
    with open(path, "w", encoding="utf-8") as file:
        for document in documents:
            file.write(document if isinstance(document, str) else json.dumps(document))
            file.write("\n")


def ids_text(ids):
    return ",".join(str(i) for i in ids)


class Run:
    """A finished process."""

    def __init__(self, command, code, out, err, seconds):
        self.command, self.code, self.out, self.err, self.seconds = command, code, out, err, seconds

    @property
    def json(self):
        return json.loads(self.out)

    def errors(self):
        """The lines of the log that are errors."""
        return [line for line in self.err.splitlines() if "] error: " in line]

    def __str__(self):
        return (f"\n$ {' '.join(self.command)}\nstatus {self.code} after {self.seconds:.1f} s\n"
                f"--- stdout\n{self.out[-4000:]}--- stderr\n{self.err[-4000:]}")

    __repr__ = __str__


def mpi_command(np, *arguments):
    """mpirun over `np` ranks of one `shoal ARGUMENTS`; np 0: without mpirun. np may be a list of argument lists, one a rank."""
    if np == 0:
        return [BINARY, *map(str, arguments)]
    start = ["mpirun", "--oversubscribe", "--bind-to", "none"]
    if not isinstance(np, list):
        return [*start, "-np", str(np), BINARY, *map(str, arguments)]
    command = start
    for rank, own in enumerate(np):
        command += ([":"] if rank > 0 else []) + ["-np", "1", BINARY, *map(str, arguments), *map(str, own)]
    return command


def start(*arguments, np=0, env=None, **popen):
    """A shoal that goes on: subprocess.Popen in a process group of its own."""
    return subprocess.Popen(mpi_command(np, *arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=env or environment(), start_new_session=True, **popen)


def shoal(*arguments, np=0, stdin="", timeout=100, env=None):
    """Run `shoal ARGUMENTS` to its end, under mpirun with np > 0; whatever still runs after `timeout` is ended and raised."""
    command = mpi_command(np, *arguments)
    began = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=env or environment(), start_new_session=True)
    try:
        out, err = process.communicate(stdin.encode("utf-8"), timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        run = Run(command, "none, it did not end", out.decode("utf-8", "replace"), err.decode("utf-8", "replace"),
                  time.monotonic() - began)
        raise AssertionError(str(run)) from None
    return Run(command, process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"),
               time.monotonic() - began)


_FORMATS = {"F32": ("f", 4), "I32": ("i", 4), "I64": ("q", 8), "F64": ("d", 8), "U8": ("B", 1)}


def read_safetensors(path):
    """{name: (shape, flat tuple)}; BF16 and other types without a struct format as bytes."""
    with open(path, "rb") as file:
        data = file.read()
    n_header = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + n_header])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        raw = data[8 + n_header + first:8 + n_header + last]
        code, size = _FORMATS.get(entry["dtype"], (None, 1))
        flat = struct.unpack(f"<{len(raw) // size}{code}", raw) if code else raw
        tensors[name] = (tuple(entry["shape"]), flat)
    return tensors


def skip(reason):
    """Leave as a skipped test."""
    print(f"SKIP: {reason}")
    sys.exit(77)


def some(cases, n=1):
    """All cases, of which the first n walk the code that the others do."""
    return list(cases)[:n] if SANITIZED else list(cases)


values = unittest.skipIf(SANITIZED, "it compares values; others walk its code")


def need_mpirun():
    if shutil.which("mpirun") is None:
        skip("mpirun is not installed")


class ShoalTest(unittest.TestCase):
    """A test with a temporary folder, self.folder, and its files by self.path(name)."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="shoal-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def expect(self, run, code, *said):
        """The run ended with `code` and its stderr has all of `said`."""
        self.assertEqual(run.code, code, run)
        for text in said:
            self.assertIn(text, run.err, run)
        return run


def main():
    if not os.path.exists(BINARY):
        print(f"{BINARY} is not built")
        sys.exit(1)
    unittest.main(verbosity=1)
