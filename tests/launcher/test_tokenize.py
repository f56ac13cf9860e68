#!/usr/bin/env python3
"""shoal tokenize: ids of the given cases, and back; bad lines."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import *  # noqa: E402,F403


import lzma  # noqa: E402

FAMILIES = ("deepseek_v3", "qwen3")


class Tokenize(ShoalTest):
    def model(self, family):
        """A folder with a tokenizer only."""
        source = os.path.join(SOURCE, "tests", "tokenizers", family)
        with lzma.open(os.path.join(source, "tokenizer.json.xz")) as packed, \
                open(self.path("tokenizer.json"), "wb") as file:
            shutil.copyfileobj(packed, file)
        shutil.copy(os.path.join(source, "tokenizer_config.json"), self.folder)
        return self.folder

    def test_cases(self):
        for family in FAMILIES:
            model = self.model(family)
            cases = read_lines(os.path.join(SOURCE, "tests", "tokenizers", family, "cases.jsonl"))
            texts = "".join(json.dumps(case["text"]) + "\n" for case in cases)
            for options, key in (([], "ids"), (["--special"], "ids_with_special")):
                run = self.expect(shoal("tokenize", model, *options, stdin=texts), OK)
                lines = run.out.splitlines()
                self.assertEqual(len(lines), len(cases))
                for case, line in zip(cases, lines):
                    self.assertEqual(json.loads(line), case[key], case["text"])
            ids = "".join(json.dumps(case["ids"]) + "\n" for case in cases)
            run = self.expect(shoal("tokenize", model, "--decode", stdin=ids), OK)
            for case, line in zip(cases, run.out.split("\n")):
                self.assertEqual(json.loads(line), case["decoded"])

    def test_bad_lines(self):
        for options, line in (([], "x"), ([], "[1]"), ([], ""), ([], '"\\ud800"'), (["--decode"], '"x"'),
                              (["--decode"], "[-1]"), (["--decode"], "[4096]"), (["--decode"], "[1.5]"),
                              (["--decode"], "[9999999999]")):
            good = "[5]" if options else '"a"'
            run = self.expect(shoal("tokenize", DEMO, *options, stdin=f"{good}\n{line}\n{good}\n"), BAD_DATA, "line 2")
            self.assertEqual(len(run.out.splitlines()), 1, run)  # what came before is answered

    def test_last_line_without_newline(self):
        run = self.expect(shoal("tokenize", DEMO, stdin='"a"\n"a"'), OK)
        self.assertEqual(len(run.out.splitlines()), 2)

    def test_one_rank_speaks(self):
        need_mpirun()
        run = self.expect(shoal("tokenize", DEMO, np=3, stdin='"hello"\n'), OK)
        alone = self.expect(shoal("tokenize", DEMO, stdin='"hello"\n'), OK)
        self.assertEqual(run.out, alone.out)


main()
