#!/usr/bin/env python3
"""The command line itself: help, version, exit codes, one message per failure."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import *  # noqa: E402,F403


COMMANDS = ["generate", "batch", "logits", "perplexity", "tokenize", "inspect", "bench"]
COMPUTE = ("generate", "batch", "logits", "perplexity", "bench", "check")


class CommandLine(ShoalTest):
    def test_help_lists_all_commands(self):
        for option in ("--help", "-h"):
            run = self.expect(shoal(option), OK)
            for command in COMMANDS:
                self.assertRegex(run.out, rf"(?m)^  {command} ")
            self.assertEqual(run.err, "")

    def test_every_command_has_help(self):
        for command in COMMANDS:
            run = self.expect(shoal(command, "--help"), OK)
            self.assertIn(f"usage: shoal {command} MODEL", run.out)
            self.assertIn("--help", run.out)
            self.assertEqual("--device" in run.out, command in COMPUTE, command)

    def test_version(self):
        run = self.expect(shoal("--version"), OK)
        self.assertRegex(run.out, r"^shoal \d+\.\d+\.\d+ \([0-9a-f]+\)\n$")

    def test_nothing_given(self):
        run = self.expect(shoal(), USAGE, "usage: shoal COMMAND [MODEL]")
        self.assertEqual(run.out, "")

    def test_what_is_not_built_is_unknown(self):
        for command in ("serve", "--frobnicate", ""):
            run = self.expect(shoal(command, DEMO), USAGE, "unknown command")
            self.assertEqual(len(run.errors()), 1, run)
        self.expect(shoal("generat", DEMO), USAGE, "did you mean generate?")

    def test_bad_usage(self):
        cases = [
            (["generate"], "no MODEL"),
            (["generate", DEMO], "exactly one of"),
            (["generate", DEMO, "--prompt", "a", "--prompt-ids", "1"], "exactly one of"),
            (["generate", DEMO, "--prompt-ids", "1", "--chat"], "--prompt-ids"),
            (["batch", DEMO, "--chat"], "unknown option"),
            (["generate", DEMO, "--prompt", "a", "--stop", ""], "empty"),
            (["generate", DEMO, "--prompt", "a", "--weights", "q5"], "native"),
            (["generate", DEMO, "--prompt", "a", "--max-tokens", "0"], "--max-tokens"),
            (["generate", DEMO, "--prompt", "a", "--kernels", "mmx"], "mmx"),
            (["generate", DEMO, "--prompt", "a", "--context", "5000"], "at most 1024"),
            (["generate", DEMO, "--prompt-ids", "4096"], "vocabulary of 4096"),
            (["generate", DEMO, "--prompt-ids", "1,x"], "--prompt-ids"),
            (["batch", DEMO, "--input", "x"], "--output"),
            (["logits", DEMO, "--output", "x"], "--ids"),
            (["perplexity", DEMO], "--file"),
            (["tokenize", DEMO, "--special", "--decode"], "--special"),
            (["bench", DEMO, "--repeat", "0"], "--repeat"),
            (["inspect", DEMO, "--prompt", "x"], "unknown option"),
        ]
        for arguments, says in cases:
            run = self.expect(shoal(*arguments), USAGE, says)
            self.assertEqual(len(run.errors()), 1, run)
            self.assertEqual(run.out, "", run)

    def test_missing_input(self):
        nowhere = self.path("nowhere")
        for arguments in (
            ["generate", nowhere, "--prompt", "x"],
            ["generate", DEMO, "--prompt-file", nowhere],
            ["batch", DEMO, "--input", nowhere, "--output", self.path("out")],
            ["perplexity", DEMO, "--file", nowhere],
            ["tokenize", nowhere],
            ["inspect", nowhere],
            ["bench", nowhere],
            ["generate", DEMO, "--prompt", "x", "--placement", nowhere],
            ["generate", golden("deepseek_v3"), "--prompt", "x"],  # no tokenizer there
        ):
            run = self.expect(shoal(*arguments), NO_INPUT)
            self.assertEqual(len(run.errors()), 1, run)
        self.assertFalse(os.path.exists(self.path("out")))

    def test_bad_data(self):
        for name in ("config.json", "tokenizer.json"):
            model = self.path(name + ".model")
            shutil.copytree(DEMO, model)
            with open(os.path.join(model, name), "w", encoding="utf-8") as file:
                file.write("{")
            run = self.expect(shoal("generate", model, "--prompt", "x"), BAD_DATA, name)
            self.assertEqual(len(run.errors()), 1, run)

    def test_a_closed_stdout_is_a_failure(self):
        with open("/dev/full", "w") as full:
            process = subprocess.run([BINARY, "inspect", DEMO], stdout=full, stderr=subprocess.PIPE, env=environment())
        self.assertEqual(process.returncode, FAILED, process.stderr)
        self.assertIn(b"standard output", process.stderr)


main()
