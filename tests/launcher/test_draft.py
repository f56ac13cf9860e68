#!/usr/bin/env python3
"""--draft: the same greedy text in fewer steps, alone and over ranks, one sequence and many."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import *  # noqa: E402,F403


CASES = read_json(os.path.join(DEMO, "expected.json"))["greedy"]
KINDS = (["--draft", "mtp"], ["--draft", "mtp", "--draft-tokens", 3], ["--draft", "ngram"])


def generate(case, *more, np=0, n=40):
    return shoal("generate", DEMO, "--prompt-ids", ids_text(case["prompt_ids"]), "--max-tokens", n, "--ignore-eos",
                 "--math", "f32", "--json", *more, np=np)


class Draft(ShoalTest):
    def test_greedy_text_is_the_same(self):
        need_mpirun()
        turns = ((0, CASES[0], []), (2, CASES[1], ["--prefill-chunk", 3]), (2, CASES[2], ["--kv", "bf16"]))
        for i, kind in enumerate(KINDS):
            for np, case, more in turns[i:i + 1] if SANITIZED else turns:
                run = self.expect(generate(case, *kind, *more, np=np), OK, "drafts accepted", "tokens per step")
                wanted = case["greedy_ids"][:40]
                if more[:1] == ["--kv"]:
                    wanted = self.expect(generate(case, *more), OK).json["ids"]
                self.assertEqual(run.json["ids"], wanted, kind)
                self.assertEqual(run.json["finish_reason"], "length")

    def test_an_end_token_among_the_guesses(self):
        for case in some(CASES):
            arguments = ["generate", DEMO, "--prompt", case["prompt"], "--max-tokens", 90, "--json"]
            plain = self.expect(shoal(*arguments), OK).json
            for kind in KINDS:
                answer = self.expect(shoal(*arguments, *kind), OK).json
                for key in ("ids", "text", "finish_reason"):
                    self.assertEqual(answer[key], plain[key], kind)

    def test_what_is_reported(self):
        need_mpirun()
        hops = {}
        for np, kind in ((0, []), (2, []), (2, KINDS[0]), (2, KINDS[1])):
            run = self.expect(generate(CASES[0], *kind, np=np), OK)
            draft, ranks = run.json["draft"], run.json["ranks"]
            self.assertEqual("drafts accepted" in run.err, kind != [])
            n_step, n_row = ranks[0]["steps"] - 1, sum(r["decode_rows"] for r in ranks)
            self.assertEqual(draft["proposed"], n_row - n_step)  # a step has a row without them
            self.assertAlmostEqual(draft["tokens_per_step"], 39 / n_step)
            self.assertEqual(draft["accepted"], 39 - n_step)
            # an MTP layer is a MoE layer more, and its exchange is paid for each guess ahead
            self.assertEqual(sum(r["experts"] for r in ranks), (6 if kind else 5) * 16)
            hops[np, ids_text(kind)] = draft["hops_per_token"]
            if not kind:
                self.assertEqual(draft["hops_per_token"], 0 if np == 0 else 2 * 5)
                self.assertEqual((draft["proposed"], draft["accepted"], draft["tokens_per_step"]), (0, 0, 1))
            else:
                self.assertGreater(draft["tokens_per_step"], 1.15)
        self.assertLess(hops[2, ids_text(KINDS[0])], 0.9 * hops[2, ""])

    def test_samples_do_not_depend_on_ranks(self):
        need_mpirun()
        for kind in some(KINDS):
            more = [*kind, "--temperature", "0.7", "--top-p", "0.9", "--seed", 5]
            alone = self.expect(generate(CASES[3], *more), OK).json
            self.assertEqual(self.expect(generate(CASES[3], *more, "--prefill-chunk", 2, np=2), OK).json["ids"], alone["ids"])

    def test_a_rank_without_sequences(self):
        need_mpirun()
        placement = self.write("p.yaml", "ranks:\n- {experts: 1, sequences: 0}\n- {experts: 2, sequences: 1}\n")
        run = self.expect(generate(CASES[4], *KINDS[1], "--placement", placement, np=2), OK)
        self.assertEqual(run.json["ids"], CASES[4]["greedy_ids"][:40])

    def test_batch(self):
        need_mpirun()
        lines = [{"id": f"{i}", "prompt": case["prompt"] * (1 + i % 3), "max_tokens": 1 + 7 * i} for i, case in enumerate(CASES)]
        write_lines(self.path("in"), lines)

        def answers(*more, np=0):
            run = shoal("batch", DEMO, "--input", self.path("in"), "--output", self.path("out"), *more, np=np)
            self.expect(run, OK, "7 answered")
            found = sorted(read_lines(self.path("out")), key=lambda line: line["id"])
            os.unlink(self.path("out"))
            for line in found:
                line.pop("timing")
            return found, run

        plain, _ = answers()
        for kind in some(KINDS):
            found, run = answers(*kind, np=2)
            self.assertEqual(found, plain, kind)
            self.assertIn("drafts accepted", run.err)

    def test_bench(self):
        run = shoal("bench", DEMO, "--prompt-tokens", 16, "--gen-tokens", 4, "--repeat", 1, "--sequences", 3, "--draft", "mtp",
                    "--draft-tokens", 2, "--json")
        answer = self.expect(run, OK).json
        self.assertEqual(answer["draft"]["proposed"], 3 * 4 * 2)
        self.assertGreaterEqual(answer["draft"]["tokens_per_step"], 1)

    def test_what_cannot_be(self):
        need_mpirun()
        e = golden_expected("deepseek_v3")
        for np in (0, 2):
            run = shoal("generate", golden("deepseek_v3"), "--prompt-ids", ids_text(e["prompt_ids"]), "--draft", "mtp", np=np)
            self.expect(run, BAD_DATA, "no MTP layer")
            self.assertEqual(len(run.errors()), 1, run)
        demo = ["generate", DEMO, "--prompt", "x"]
        self.expect(shoal(*demo, "--draft-tokens", 2), USAGE, "needs --draft")
        self.expect(shoal(*demo, "--draft", "mtp", "--draft-tokens", 0), USAGE, "from 1 to 16")
        self.expect(shoal(*demo, "--draft", "mtp", "--draft-tokens", 17), USAGE, "from 1 to 16")
        self.expect(shoal(*demo, "--draft", "model"), USAGE, "mtp|ngram")
        self.expect(shoal("perplexity", DEMO, "--file", "x", "--draft", "mtp"), USAGE, "unknown option")
        run = shoal(*demo, np=[["--draft", "mtp"], ["--draft", "mtp", "--draft-tokens", 2]])
        self.expect(run, USAGE, "--draft-tokens")


main()
