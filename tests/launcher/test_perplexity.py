#!/usr/bin/env python3
"""shoal perplexity: the held-out losses of the demo."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import *  # noqa: E402,F403


class Perplexity(ShoalTest):
    @values
    def test_held_out_losses_of_the_demo(self):
        for name, e in read_json(os.path.join(DEMO, "expected.json"))["perplexity"].items():
            run = shoal("perplexity", DEMO, "--file", os.path.join(DEMO, e["file"]), "--context", e["context"], "--math", "f32",
                        "--json")
            answer = self.expect(run, OK).json
            self.assertEqual(set(answer), {"mean_nll", "perplexity", "tokens_scored"})
            self.assertEqual(answer["tokens_scored"], e["tokens_scored"], name)
            self.assertAlmostEqual(answer["mean_nll"], e["mean_nll"], delta=1e-4)

    def test_ranks_give_the_same_number(self):
        need_mpirun()
        text = self.write("text", "It is a truth universally acknowledged, that a single man " * 30)
        arguments = ["perplexity", DEMO, "--file", text, "--context", 64, "--json"]
        alone = self.expect(shoal(*arguments), OK)
        for np, more in ((2, []), (3, ["--sequences", 5, "--prefill-chunk", 50])):
            self.assertEqual(self.expect(shoal(*arguments, *more, np=np), OK).out, alone.out)

    def test_windows(self):
        text = self.write("text", "And it came to pass, when the people of the land " * 4)
        ids = json.loads(shoal("tokenize", DEMO, stdin=json.dumps(open(text, encoding="utf-8").read()) + "\n").out)
        for context in (2, 3, len(ids) - 1, len(ids), 500):
            answer = self.expect(shoal("perplexity", DEMO, "--file", text, "--context", context, "--json"), OK).json
            n_window = -(-len(ids) // context)
            self.assertEqual(answer["tokens_scored"], len(ids) - n_window, context)

    def test_nothing_to_score(self):
        for text in ("", "a"):
            self.expect(shoal("perplexity", DEMO, "--file", self.write("text", text)), BAD_DATA)
        with open(self.path("latin"), "wb") as file:
            file.write(b"caf\xe9 au lait")
        self.expect(shoal("perplexity", DEMO, "--file", self.path("latin")), BAD_DATA, "UTF-8")


main()
