#!/usr/bin/env python3
"""--routes and `shoal routes`: the same choices from any number of ranks, those that `shoal logits` gives; the summary's figures;
traces that are cut off, damaged or none."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import (BAD_DATA, DEMO, FAILED, NO_INPUT, OK, USAGE, ShoalTest, golden, main, need_mpirun,  # noqa: E402
                        read_safetensors, shoal, write_lines)


class Routes(ShoalTest):
    def summary(self, path, *options):
        run = shoal("routes", path, "--json", *options)
        self.expect(run, OK)
        return run.json

    def batch(self, np, *options, input):
        path = self.path(f"{np}{len(options)}.routes")
        run = shoal("batch", DEMO, "--input", input, "--output", self.path(f"{np}{len(options)}.out"), "--max-tokens", 5,
                    "--routes", path, *options, np=np)
        self.expect(run, OK, f"{path}: the router's choices for ")
        return path

    def test_any_number_of_ranks(self):
        prompts = ["Once upon a time there was", "one two three four five six seven", "def main():", "The fish " * 80]
        lines = self.path("in.jsonl")
        write_lines(lines, [{"id": i, "prompt": p} for i, p in enumerate(prompts)])
        first = self.summary(self.batch(0, input=lines), "--ranks", "1..3")
        self.assertTrue(first["complete"])
        self.assertEqual((first["model"], first["moe_layers"], first["experts"], first["top_k"], first["sequences"]),
                         ("deepseek_v3", 5, 16, 4, 4))
        self.assertGreater(first["windows"], 3)
        self.assertEqual(self.summary(self.batch(3, "--prefill-chunk", 7, input=lines), "--ranks", "1..3"), first)
        self.assertEqual([s["ranks"] for s in first["ranks"]], [1, 2, 3])
        one = first["ranks"][0]
        for value in (one["load_max_over_mean"], one["window_max_over_mean"], one["prompt"]["ranks_per_row"],
                      one["decode"]["row_max_over_mean"], one["uniform_ranks_per_row"]):
            self.assertAlmostEqual(value, 1)

    def test_what_logits_says(self):
        """The counts of one prompt are those of the choices that `logits` writes, guesses by the MTP layer left out."""
        model, ids = golden("deepseek_v3-mtp"), "5,9,2,7,1,3,8,4,6"
        self.expect(shoal("logits", model, "--ids", ids, "--output", self.path("rows"), "--routes", self.path("routes")), OK)
        shape, expert = read_safetensors(self.path("rows"))["topk_expert"]
        found = self.summary(self.path("routes"), "--ranks", "2")
        self.assertEqual((found["moe_layers"], found["prompt_rows"], found["decode_rows"], found["top_k"]), (shape[0], shape[1], 0, shape[2]))
        for i, layer in enumerate(found["layers"]):
            chosen = expert[i * shape[1] * shape[2]:(i + 1) * shape[1] * shape[2]]
            counts = [chosen.count(e) for e in range(found["experts"])]
            self.assertEqual(layer["most_used"][0], {"expert": counts.index(max(counts)), "rows": max(counts)})
            self.assertAlmostEqual(layer["max_over_mean"], max(counts) * len(counts) / len(chosen))
            self.assertEqual(layer["unused"], counts.count(0))
        most = 0  # of one window that is the prompt: the fuller half of the experts
        half = found["experts"] // 2
        for i in range(shape[0]):
            chosen = expert[i * shape[1] * shape[2]:(i + 1) * shape[1] * shape[2]]
            low = sum(e < half for e in chosen)
            most += max(low, len(chosen) - low)
        self.assertAlmostEqual(found["ranks"][0]["window_max_over_mean"], most * 2 / len(expert))
        # Guesses are rows of decoding.
        run = shoal("generate", model, "--prompt-ids", ids, "--max-tokens", 8, "--ignore-eos", "--draft", "mtp", "--json",
                    "--routes", self.path("drafted"), np=2)
        self.expect(run, OK)
        drafted = self.summary(self.path("drafted"))
        self.assertEqual(drafted["decode_rows"], sum(r["decode_rows"] for r in run.json["ranks"]))
        self.assertEqual(drafted["prompt_rows"], 9)

    def test_check(self):
        path = self.path("check")
        self.expect(shoal("check", DEMO, "--prompt-ids", "1,2,3,4,5", "--sequences", 2, "--routes", path, np=2), OK)
        found = self.summary(path)
        self.assertEqual((found["sequences"], found["prompt_rows"], found["decode_rows"]), (2, 10, 16))
        self.assertTrue(all(n["rows"] % 2 == 0 for layer in found["layers"] for n in layer["most_used"]))  # twice the same prompt

    def test_files(self):
        path = self.path("whole")
        self.expect(shoal("generate", DEMO, "--prompt-ids", "1,2,3", "--max-tokens", 4, "--ignore-eos", "--routes", path), OK)
        run = self.expect(shoal("routes", path), OK)
        for text in ("3 rows of prompts and 3 of decoding, of 1 sequence", "load of the experts", "imbalance over ranks", "chosen together"):
            self.assertIn(text, run.out)
        with open(path, "rb") as file:
            whole = file.read()
        cluster = self.write("two.yaml", "hosts: [{name: a, cores: 2, memory_gb: 16, memory_bandwidth_gb_per_s: 20, "
                                         "cpu: avx512vnni, ranks: [cpu, cpu]}]\n")
        run = self.expect(shoal("plan", DEMO, "--cluster", cluster, "--ranks", 2, "--json", "--routes", path), OK)
        self.assertEqual(run.json[0]["routing"], path)
        words = ["plan", DEMO, "--cluster", cluster, "--ranks", 2, "--sequences", "1,8", "--simulate", 4, "--json"]
        recorded, drawn = self.expect(shoal(*words, "--routes", path), OK).json, self.expect(shoal(*words), OK).json
        self.assertEqual([e["sequences"] for e in recorded], [1, 8])
        for e in recorded:  # what goes to the other rank is what the trace chose, not what a model of it draws
            self.assertGreater(e["combine_bytes"], 0)
        self.assertNotEqual([e["combine_bytes"] for e in recorded], [e["combine_bytes"] for e in drawn])
        self.assertEqual(recorded, self.expect(shoal(*words, "--routes", path), OK).json)
        self.expect(shoal("plan", golden("qwen3_moe"), "--cluster", cluster, "--routes", path), BAD_DATA, "trace of another model")
        self.write_bytes("torn", whole[:-20])
        torn = shoal("routes", self.path("torn"), "--json")
        self.expect(torn, OK, "did not come to its end; a last record that is cut off is left out")
        self.assertEqual((torn.json["complete"], torn.json["decode_rows"]), (False, 2))
        self.write_bytes("longer", whole + b"x")
        self.expect(shoal("routes", self.path("longer")), BAD_DATA, "something follows its end")
        self.expect(shoal("routes", os.path.join(DEMO, "config.json")), BAD_DATA, "is no routing trace; --routes F of a run writes one")
        self.expect(shoal("routes", self.path("none")), NO_INPUT, "No such file")
        self.expect(shoal("routes", DEMO), NO_INPUT, "Is a directory")
        self.expect(shoal("routes", path, "--ranks", "0"), USAGE, "--ranks")
        self.expect(shoal("routes"), USAGE, "F")
        self.expect(shoal("generate", DEMO, "--prompt-ids", "1", "--routes", self.path("no-folder/r")), FAILED,
                    "creating it failed: No such file or directory")

    def test_a_full_disk_ends_the_trace_only(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        run = shoal("generate", DEMO, "--prompt-ids", "1,2,3", "--max-tokens", 4, "--ignore-eos", "--json", "--routes", "/dev/full")
        self.expect(run, FAILED, "/dev/full: writing the routing trace failed: No space left on device")
        self.assertEqual(len(run.json["ids"]), 4)
        self.assertEqual(len(run.errors()), 1, run)

    def write_bytes(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)


need_mpirun()
main()
