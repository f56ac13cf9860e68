#!/usr/bin/env python3
"""A golden family at several rank counts: logits in tolerance, router choices and greedy ids equal, the same bytes at every
rank count, in both --math modes and with --weights; `reduced` within a tolerance; each rank reads about 1/N of the expert bytes."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import SANITIZED, ShoalTest, golden, golden_expected, ids_text, main, need_mpirun, read_safetensors, shoal  # noqa: E402

NAME = sys.argv.pop(1)
# The first two families take every turn; the others share their code and take the short way, which under a sanitizer all do.
FULL = NAME.startswith(("deepseek_v3", "qwen3_moe")) and not SANITIZED
RANKS = [0, 2, 3, 4, 7] if FULL else [0, 2, 3]
VARIATIONS = [(0, ["--threads", 3]), (0, ["--prefill-chunk", 5]), (2, []), (3, ["--prefill-chunk", 1]), (4, ["--threads", 2]), (7, []),
              (2, ["--kernels", "reference"])] if FULL else [(2, ["--prefill-chunk", 5, "--kernels", "reference"]), (3, [])]
MODES = [("f32", "native"), ("fast", "native"), ("fast", "q4")] + ([("f32", "q4"), ("fast", "q8"), ("fast", "bf16")] if FULL else [])
EXPECTED = golden_expected(NAME)
TENSORS = read_safetensors(golden(NAME, "expected.safetensors"))
PROMPT = ids_text(EXPECTED["prompt_ids"])


def chosen(out, row):
    """The experts of a row, a set for each MoE layer."""
    (n_layer, n_row, k), expert = out["topk_expert"]
    return [set(expert[at:at + k]) for at in range(row * k, n_layer * n_row * k, n_row * k)]


class Golden(ShoalTest):
    def logits(self, np, *options):
        run = shoal("logits", golden(NAME), "--ids", PROMPT, "--output", self.path("out.safetensors"), *options, np=np)
        self.expect(run, 0)
        return read_safetensors(self.path("out.safetensors"))

    def generate(self, np, *options):
        run = shoal("generate", golden(NAME), "--json", *options, np=np)
        self.expect(run, 0)
        return run.json

    def assertClose(self, got, want, tolerance):
        self.assertEqual(len(got), len(want))
        worst = max(abs(a - b) for a, b in zip(got, want))
        self.assertLessEqual(worst, tolerance * max(abs(x) for x in want))

    def assertSameRouting(self, out):
        shape, expert = out["topk_expert"]
        _, weight = out["topk_weight"]
        want_shape, want_expert = TENSORS["router_topk_idx"]
        _, want_weight = TENSORS["router_topk_weight"]
        self.assertEqual(shape, want_shape)
        k = shape[2]
        for row in range(0, len(expert), k):  # the golden lists experts ascending, ours are in the order chosen
            chosen = sorted(zip(expert[row:row + k], weight[row:row + k]))
            self.assertEqual(tuple(e for e, _ in chosen), want_expert[row:row + k])
            for (_, w), want in zip(chosen, want_weight[row:row + k]):
                self.assertAlmostEqual(w, want, delta=1e-3)

    def test_conformance(self):
        for np in RANKS:
            with self.subTest(np=np):
                out = self.logits(np, "--math", "f32")
                self.assertClose(out["logits"][1], TENSORS["prompt_logits"][1], 2e-3)
                self.assertClose(out["final_hidden"][1], TENSORS["final_hidden"][1], 2e-3)
                self.assertSameRouting(out)

    def test_greedy(self):
        for np in RANKS:
            with self.subTest(np=np):
                out = self.generate(np, "--prompt-ids", PROMPT, "--max-tokens", len(EXPECTED["greedy_ids"]), "--math", "f32",
                                    "--ignore-eos")
                self.assertEqual(out["ids"], EXPECTED["greedy_ids"])
                self.assertEqual(out["prompt_ids"], EXPECTED["prompt_ids"])
                self.assertEqual(len(out["ranks"]), np or 1)

    def test_same_bytes(self):
        for math, weights in MODES:
            mode = ["--math", math, "--weights", weights]
            first = self.logits(0, *mode, "--threads", 1)
            for np, options in VARIATIONS:
                with self.subTest(mode=mode, np=np, options=options):
                    self.assertTrue(self.logits(np, *mode, *options) == first, "other bytes")

    def test_same_bytes_with_a_bf16_cache(self):
        first = self.logits(0, "--math", "f32", "--kv", "bf16")
        self.assertFalse(first == self.logits(0, "--math", "f32"), "the cache type makes no difference")
        for np in (2, 5) if FULL else (3,):
            self.assertTrue(self.logits(np, "--math", "f32", "--kv", "bf16") == first, f"{np} ranks: other bytes")

    def test_weights_stay_near(self):
        """The error of the median row. Random weights suffer more than trained ones: unrelated rows would be 1.4 apart."""
        (n_row, n_vocab), want = TENSORS["prompt_logits"]
        for math, weights, tolerance in (("f32", "bf16", 0.03), ("fast", "q8", 0.3), ("fast", "q4", 1.0)):
            got = self.logits(0, "--math", math, "--weights", weights)["logits"][1]
            errors = []
            for begin in range(0, n_row * n_vocab, n_vocab):
                row = slice(begin, begin + n_vocab)
                apart = sum((a - b) ** 2 for a, b in zip(got[row], want[row]))
                errors.append((apart / sum(b ** 2 for b in want[row])) ** 0.5)
            with self.subTest(math=math, weights=weights):
                self.assertLessEqual(sorted(errors)[n_row // 2], tolerance)

    def test_reduced(self):
        """Rows whose experts are those of `exact` are near it. A rounding may tip a choice between experts that are nearly
        equal, which random weights turn into another row: rarely with bf16 rows, never with f32."""
        for math, tolerance, tipped_max in (("f32", 1e-4, 0), ("fast", 5e-2, 2)):
            exact = self.logits(0, "--math", math)
            n_row, n_vocab = exact["logits"][0]
            for np in (2, 3, 7) if FULL else (3,):
                out = self.logits(np, "--math", math, "--combine", "reduced")
                same = [row for row in range(n_row) if chosen(out, row) == chosen(exact, row)]
                self.assertGreaterEqual(len(same), n_row - tipped_max)
                for row in same:
                    at = slice(row * n_vocab, (row + 1) * n_vocab)
                    self.assertClose(out["logits"][1][at], exact["logits"][1][at], tolerance)

    def test_each_rank_reads_its_own_experts(self):
        def read(np):
            ranks = self.generate(np, "--prompt-ids", "1,2", "--max-tokens", 1)["ranks"]
            return [rank["expert_bytes_read"] for rank in ranks]

        whole = read(0)[0]
        self.assertGreater(whole, 0)
        for np in (2, 4) if FULL else (2,):
            parts = read(np)
            self.assertEqual(sum(parts), whole)
            self.assertLessEqual(max(parts), whole / np * 1.5, parts)


need_mpirun()
main()
