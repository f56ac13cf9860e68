#!/usr/bin/env python3
"""scripts/soak: a few random faults end well, and what it looks for is what it finds."""
import importlib.machinery
import importlib.util
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import *  # noqa: E402,F403

N_FAULT = 5
SCRIPT = os.path.join(SOURCE, "scripts", "soak")


def load():
    loader = importlib.machinery.SourceFileLoader("soak", SCRIPT)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("soak", loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


class Soak(ShoalTest):
    def test_what_it_looks_for(self):
        soak = load()
        whole = {"a": {"id": "a", "text": "x"}, "b": {"id": "b", "text": "y"}}
        lines = {"a": b'{"id":"a","text":"x","timing":{}}\n', "b": b'{"id":"b","text":"y"}\n', "other": b'{"id":"b","text":"z"}\n',
                 "new": b'{"id":"c","text":"x"}\n', "junk": b'{"id":"a","te\n'}
        for names, tail, n_found, n_wrong in ((["a", "b"], b"", 2, 0), (["b", "a"], b'{"id', 2, 0), ([], b"", 0, 0), (["a", "b", "a"], b"", 2, 1),
                                              (["a", "other"], b"", 2, 1), (["new"], b"", 1, 1), (["junk", "b"], b"", 1, 1)):
            data = b"".join(lines[name] for name in names)
            with open(self.path("out"), "wb") as file:
                file.write(data + tail)
            found_data, found, torn_bytes, wrong = soak.read_answers(self.path("out"), whole)
            self.assertEqual((found_data, len(found), torn_bytes, len(wrong)), (data, n_found, len(tail), n_wrong), names)

    def test_a_few_faults(self):
        need_mpirun()
        run = subprocess.run([SCRIPT, DEMO, "--faults", str(N_FAULT), "--seed", "7", "--lines", "60", "--shoal", BINARY],
                             capture_output=True, text=True, timeout=250)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertEqual(len([line for line in run.stdout.splitlines() if "gone after" in line]), N_FAULT, run.stdout)
        self.assertIn("nothing was lost, nothing answered twice", run.stdout)


main()
