#!/usr/bin/env python3
"""A GGUF as MODEL gives the bytes of the folder it was made from, alone and over ranks, split or not; so do its tokenizer and text."""
import json
import lzma
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import SOURCE, ShoalTest, golden, golden_expected, ids_text, main, need_mpirun, read_safetensors, shoal  # noqa: E402

CONVERT = os.path.join(SOURCE, "tests", "checkpoint", "gguf", "convert.py")
FAMILIES = ["qwen3_moe", "deepseek_v3", "deepseek_v2-lite", "mixtral", "qwen2_moe", "olmoe", "glm4_moe", "granitemoe", "gpt_oss-mxfp4"]


class Gguf(ShoalTest):
    def convert(self, folder, name, *options):
        subprocess.run([sys.executable, CONVERT, folder, self.path(name), *options], check=True)
        return self.path(name)

    def logits(self, model, ids, np=0):
        self.expect(shoal("logits", model, "--ids", ids, "--output", self.path("out"), np=np), 0)
        return read_safetensors(self.path("out"))

    def test_same_bytes_as_the_folder(self):
        for name in FAMILIES:
            with self.subTest(family=name):
                ids = ids_text(golden_expected(name)["prompt_ids"])
                want = self.logits(golden(name), ids)
                model = self.convert(golden(name), f"{name}.gguf")
                self.assertTrue(self.logits(model, ids) == want, "other bytes")
                self.assertTrue(self.logits(model, ids, np=3) == want, "other bytes at 3 ranks")

    def test_split_files(self):
        ids = ids_text(golden_expected("qwen3_moe")["prompt_ids"])
        self.convert(golden("qwen3_moe"), "part", "split=3")
        model = self.path("part-00001-of-00003.gguf")
        self.assertTrue(self.logits(model, ids, np=2) == self.logits(golden("qwen3_moe"), ids), "other bytes")

    def test_tokenizer(self):
        folder = self.path("tokenizer")
        os.mkdir(folder)
        source = os.path.join(SOURCE, "tests", "tokenizers", "qwen3")
        with lzma.open(os.path.join(source, "tokenizer.json.xz")) as packed, open(os.path.join(folder, "tokenizer.json"), "wb") as out:
            out.write(packed.read())
        with open(os.path.join(source, "tokenizer_config.json"), "rb") as config:
            with open(os.path.join(folder, "tokenizer_config.json"), "wb") as out:
                out.write(config.read())
        model = self.convert(golden("qwen3_moe"), "text.gguf", f"tokenizer={folder},qwen2")
        with open(os.path.join(source, "cases.jsonl"), encoding="ascii") as cases:
            lines = [json.loads(line) for line in cases]
        run = shoal("tokenize", model, stdin="".join(json.dumps(line["text"]) + "\n" for line in lines))
        self.expect(run, 0)
        for line, ids in zip(lines, run.out.splitlines(), strict=True):
            self.assertEqual(json.loads(ids), line["ids"], line["text"])

    def test_inspect(self):
        model = self.convert(golden("deepseek_v3"), "m.gguf")
        folder, file = (shoal("inspect", m, "--json").json for m in (golden("deepseek_v3"), model))
        self.assertEqual(folder["parameters_total"], file["parameters_total"])
        self.assertEqual(folder["architecture"], file["architecture"])


need_mpirun()
main()
