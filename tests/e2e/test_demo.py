#!/usr/bin/env python3
"""The demo checkpoint: the greedy texts and held-out losses of expected.json, at several rank counts."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import DEMO, ShoalTest, main, need_mpirun, read_json, shoal  # noqa: E402

EXPECTED = read_json(os.path.join(DEMO, "expected.json"))


class Demo(ShoalTest):
    def generate(self, np, *options):
        run = shoal("generate", DEMO, "--json", *options, np=np)
        self.expect(run, 0)
        return run.json

    def test_greedy_texts(self):
        for case in EXPECTED["greedy"]:
            for np in (0, 2, 3):
                with self.subTest(prompt=case["prompt"], np=np):
                    out = self.generate(np, "--prompt", case["prompt"], "--max-tokens", len(case["greedy_ids"]), "--math", "f32",
                                        "--ignore-eos")
                    self.assertEqual(out["prompt_ids"], case["prompt_ids"])
                    self.assertEqual(out["ids"], case["greedy_ids"])

    def test_texts_of_fast_math_do_not_depend_on_ranks(self):
        for weights in ("native", "q8", "q4"):
            case = EXPECTED["greedy"][1]
            options = ["--prompt", case["prompt"], "--max-tokens", 40, "--weights", weights, "--ignore-eos"]
            first = self.generate(0, *options)["ids"]
            self.assertEqual(len(first), 40)
            for np in (2, 3):
                with self.subTest(weights=weights, np=np):
                    self.assertEqual(self.generate(np, *options)["ids"], first)

    def test_streamed_text(self):
        case = EXPECTED["greedy"][0]
        run = shoal("generate", DEMO, "--prompt", case["prompt"], "--max-tokens", len(case["greedy_ids"]), "--math", "f32",
                    np=2)
        self.expect(run, 0)
        self.assertEqual(run.out, case["text"] + "\n")
        closing = run.err.strip().splitlines()[-1]
        for said in ("prompt tokens", "generated", "tok/s", "2 ranks", "sent"):
            self.assertIn(said, closing)

    def test_end_token(self):
        case = EXPECTED["greedy"][2]
        end = case["greedy_ids"].index(1)
        out = self.generate(2, "--prompt", case["prompt"], "--max-tokens", 48, "--math", "f32")
        self.assertEqual(out["ids"], case["greedy_ids"][:end])
        self.assertEqual(out["finish_reason"], "stop")

    def test_sampled_text_does_not_depend_on_ranks(self):
        options = ["--prompt", "Emma was", "--max-tokens", 40, "--temperature", 0.8, "--top-k", 50, "--top-p", 0.95]
        first = self.generate(0, *options, "--seed", 7)["ids"]
        for np in (2, 3, 5):
            self.assertEqual(self.generate(np, *options, "--seed", 7)["ids"], first)
        self.assertNotEqual(self.generate(0, *options, "--seed", 8)["ids"], first)

    def test_held_out_losses(self):
        for np, name in [(0, "austen"), (2, "kjv"), (3, "jargon"), (2, "python")]:
            case = EXPECTED["perplexity"][name]
            run = shoal("perplexity", DEMO, "--file", os.path.join(DEMO, case["file"]), "--context", case["context"], "--math", "f32",
                        "--json", np=np)
            self.expect(run, 0)
            self.assertEqual(run.json["tokens_scored"], case["tokens_scored"])
            self.assertAlmostEqual(run.json["mean_nll"], case["mean_nll"], delta=1e-4)


need_mpirun()
main()
