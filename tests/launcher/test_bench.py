#!/usr/bin/env python3
"""shoal bench: it runs, and what it prints fits together. No speed is judged."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import *  # noqa: E402,F403

PHASES = ["attention", "router", "dispatch", "experts", "combine", "shared", "dense", "logits", "sample", "other", "wait"]
TOP_K, N_MOE_LAYER = 4, 5  # of the demo
# Multiply-adds of a token: parameters that it uses, but for norms and the bias of 16 experts in 5 routers
MULTIPLY_ADDS = 3576272 - 3456 - 5 * 16


class Bench(ShoalTest):
    SMALL = ["--prompt-tokens", 16, "--gen-tokens", 4, "--repeat", 2]

    def check_case(self, case, n_rank):
        """The figures of a case agree with each other."""
        n_sequence = case["sequences"]
        fraction = case["weight_bytes_per_step"] / n_sequence * case["decode_tok_per_s"] / 1e9 / case["read_bandwidth_gb_per_s"]
        self.assertAlmostEqual(case["read_bandwidth_fraction"], fraction, delta=1e-6 * fraction)
        for key in ("prefill_tok_per_s", "decode_tok_per_s"):
            self.assertGreater(case[key + "_min"], 0)
            self.assertLessEqual(case[key + "_min"], case[key])
            self.assertLessEqual(case[key], case[key + "_max"])
        self.assertEqual(case["prefill"]["tokens"], case["repeat"] * n_sequence * case["prompt_tokens"])
        self.assertEqual(case["decode"]["steps"], case["repeat"] * case["gen_tokens"])
        for name in ("prefill", "decode"):
            part = case[name]
            self.assertEqual(len(part["ranks"]), n_rank)
            self.assertGreaterEqual(part["expert_imbalance"], 1)
            self.assertLessEqual(part["expert_imbalance"], n_rank)
            for rank in part["ranks"]:
                phases = rank["phases"]
                self.assertEqual(sorted(phases), sorted(phase + "_us" for phase in PHASES))
                # `other` is what the named phases leave of a step: time that two of them had counted would make it negative
                self.assertGreaterEqual(min(phases.values()), 0, phases)
                self.assertAlmostEqual(sum(phases.values()), rank["step_us"], delta=0.05 * rank["step_us"])
                # another rank may still be in its last step when rank 0 has what it wants
                self.assertGreaterEqual(rank["step_us"] + rank["idle_us"], part["time_us"])
            self.assertEqual(part["ranks"][0]["step_us"] + part["ranks"][0]["idle_us"], part["time_us"])
        decode = case["decode"]
        self.assertEqual(sum(rank["multiply_adds"] for rank in decode["ranks"]), decode["tokens"] * MULTIPLY_ADDS)
        self.assertEqual(sum(rank["expert_slots"] for rank in decode["ranks"]), decode["tokens"] * TOP_K * N_MOE_LAYER)
        self.assertAlmostEqual(sum(rank["weight_bytes"] for rank in decode["ranks"]) / decode["tokens"],
                               case["weight_bytes_per_token"], delta=1)
        for phase in PHASES:
            self.assertEqual(case["phases"][phase + "_us"],
                             sum(case[name]["ranks"][0]["phases"][phase + "_us"] for name in ("prefill", "decode")))

    def test_json(self):
        need_mpirun()
        for np, more in ((0, []), (2, ["--sequences", 5, "--prefill-chunk", 20])):
            n_rank = max(np, 1)
            answer = self.expect(shoal("bench", DEMO, *self.SMALL, *more, "--json", np=np), OK).json
            for key in ("prefill_tok_per_s", "decode_tok_per_s", "read_bandwidth_gb_per_s", "read_bandwidth_fraction",
                        "int8_peak_gop_per_s", "f32_peak_gflop_per_s", "pool_job_us", "decode_dot_peak_fraction"):
                self.assertGreater(answer[key], 0, key)
            self.check_case(answer, n_rank)
            self.assertEqual(len(answer["ranks"]), n_rank)
            self.assertGreater(answer["phases"]["experts_us"], 0)
            # a warm-up and two runs of 16 tokens each
            self.assertEqual(sum(r["prompt_rows"] for r in answer["ranks"]), 3 * 16 * answer["sequences"])
            if n_rank == 1:
                self.assertEqual([answer["decode"]["expert_imbalance"], answer["sent_bytes_per_token"]], [1, 0])
                # decode steps see 17, 18, 19 and 20 positions of 960 bytes
                self.assertEqual(answer["cache_bytes_per_token"], 960 * 18.5)
            else:
                self.assertGreater(answer["sent_bytes_per_token"], 0)
                self.assertGreater(answer["decode"]["expert_imbalance"], 1)

    def test_lists(self):
        need_mpirun()
        answer = self.expect(shoal("bench", DEMO, "--prompt-tokens", "8,24", "--sequences", "1,2,3", "--gen-tokens", 2, "--repeat", 1,
                                   "--json", np=3), OK).json
        self.assertEqual([(case["prompt_tokens"], case["sequences"]) for case in answer["cases"]],
                         [(p, b) for p in (8, 24) for b in (1, 2, 3)])
        for case in answer["cases"]:
            self.check_case(case, 3)
        self.assertNotIn("decode_tok_per_s", answer)
        # of one sequence only rank 0 has rows
        self.assertEqual([rank["cache_bytes"] > 0 for rank in answer["cases"][0]["decode"]["ranks"]], [True, False, False])

    def test_bad_lists(self):
        for option in ("--prompt-tokens", "--sequences"):
            for text in ("", "0", "1,,2", "1,x", "-3", "99999999999"):
                self.expect(shoal("bench", DEMO, option, text), USAGE, option)

    def test_for_people(self):
        run = self.expect(shoal("bench", DEMO, *self.SMALL, "--sequences", "1,2"), OK)
        for text in ("decode_tok_per_s ", "read_bandwidth_gb_per_s ", "  attention ", "  wait ", "prompt_tokens  sequences"):
            self.assertIn(text, run.out)

    def test_context(self):
        self.expect(shoal("bench", DEMO, *self.SMALL, "--context", 20), USAGE, "--context")
        self.expect(shoal("bench", DEMO, "--prompt-tokens", "16,2000"), USAGE, "1024")


main()
