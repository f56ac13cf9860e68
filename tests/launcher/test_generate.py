#!/usr/bin/env python3
"""shoal generate: the texts of the demo, streaming, JSON, sampling, any number of ranks."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import *  # noqa: E402,F403


EXPECTED = read_json(os.path.join(DEMO, "expected.json"))["greedy"]
END = 1  # eos_token_id of the demo


class Generate(ShoalTest):
    def test_greedy_texts_of_the_demo(self):
        for case in some(EXPECTED, 2):
            ids = case["greedy_ids"]
            arguments = ["generate", DEMO, "--prompt", case["prompt"], "--max-tokens", len(ids), "--math", "f32", "--json"]
            answer = self.expect(shoal(*arguments, "--ignore-eos"), OK).json
            self.assertEqual(answer["prompt_ids"], case["prompt_ids"])
            self.assertEqual(answer["ids"], ids)
            self.assertEqual(answer["finish_reason"], "length")
            self.assertEqual(answer["text"], case["text"])
            answer = self.expect(shoal(*arguments), OK).json
            self.assertEqual(answer["ids"], ids[:ids.index(END)] if END in ids else ids)
            self.assertEqual(answer["finish_reason"], "stop" if END in ids else "length")

    def test_the_stream_is_the_text(self):
        case = EXPECTED[0]
        arguments = ["generate", DEMO, "--prompt", case["prompt"], "--max-tokens", len(case["greedy_ids"]), "--math", "f32"]
        run = self.expect(shoal(*arguments), OK, "memory of rank 0", "loaded", "prompt tokens", "generated", "1 rank")
        self.assertEqual(run.out, case["text"] + "\n")
        quiet = self.expect(shoal(*arguments, "--quiet"), OK)
        self.assertEqual((quiet.out, quiet.err), (run.out, ""))
        from_file = self.expect(shoal(*arguments[:2], "--prompt-file", self.write("p", case["prompt"]), *arguments[4:]), OK)
        self.assertEqual(from_file.out, run.out)
        from_ids = self.expect(shoal(*arguments[:2], "--prompt-ids", ids_text(case["prompt_ids"]), *arguments[4:]), OK)
        self.assertEqual(from_ids.out, run.out)

    def test_ranks_give_the_same_text_and_report_themselves(self):
        need_mpirun()
        case = EXPECTED[0]
        arguments = ["generate", DEMO, "--prompt", case["prompt"], "--max-tokens", 24, "--temperature", "0.8", "--seed", 3, "--json"]
        alone = self.expect(shoal(*arguments), OK).json
        for np in (2, 3):
            run = self.expect(shoal(*arguments, np=np), OK)
            answer = run.json
            for key in ("prompt_ids", "ids", "text", "finish_reason"):
                self.assertEqual(answer[key], alone[key])
            ranks = answer["ranks"]
            self.assertEqual([r["rank"] for r in ranks], list(range(np)))
            self.assertEqual(sum(r["experts"] for r in ranks), 5 * 16)
            self.assertEqual(sum(r["sent_bytes"] for r in ranks), sum(r["received_bytes"] for r in ranks))
            total = sum(r["expert_bytes_read"] for r in ranks)
            self.assertEqual(total, alone["ranks"][0]["expert_bytes_read"])
            for r in ranks:  # 80 experts: nobody reads more than its share and a few more
                self.assertLessEqual(r["expert_bytes_read"], total / np * 1.1)
            self.assertIn(f"{np} ranks", run.err)

    def test_seeds(self):
        def text(seed, *more):
            run = shoal("generate", DEMO, "--prompt", "It is", "--max-tokens", 24, "--temperature", "1", "--seed", seed, *more)
            return self.expect(run, OK).out
        self.assertEqual(text(1), text(1))
        self.assertNotEqual(text(1), text(2))
        self.assertEqual(text(1, "--top-k", 1), text(2, "--top-k", 1))
        self.assertEqual(text(1, "--top-p", 0), text(2, "--top-k", 1))

    def test_limits(self):
        prompt = ids_text([5] * 30)
        run = self.expect(shoal("generate", DEMO, "--prompt-ids", prompt, "--context", 40, "--ignore-eos", "--json"), OK)
        self.assertEqual(len(run.json["ids"]), 10)
        self.assertEqual(run.json["finish_reason"], "length")
        run = self.expect(shoal("generate", DEMO, "--prompt-ids", prompt, "--context", 40, "--max-tokens", 50, "--ignore-eos",
                                "--json"), OK, "leaves room for 10")
        self.assertEqual(len(run.json["ids"]), 10)
        self.expect(shoal("generate", DEMO, "--prompt-ids", prompt, "--context", 30), USAGE, "--context")

    def test_without_a_tokenizer(self):
        e = golden_expected("deepseek_v3")
        n = len(e["greedy_ids"])
        arguments = ["generate", golden("deepseek_v3"), "--prompt-ids", ids_text(e["prompt_ids"]), "--max-tokens", n, "--math", "f32"]
        answer = self.expect(shoal(*arguments, "--json"), OK).json
        self.assertEqual(answer["ids"], e["greedy_ids"])
        self.assertEqual(answer["text"], "")
        run = self.expect(shoal(*arguments), OK)
        self.assertEqual([int(i) for i in run.out.split()], e["greedy_ids"])

    def test_settings_do_not_change_the_text(self):
        case = EXPECTED[1]
        for more in some((["--threads", 3], ["--kernels", "reference"], ["--sequences", 3], ["--prefill-chunk", 3], ["--threads", 1],
                          ["--prefill-chunk", 1]), 4):
            run = shoal("generate", DEMO, "--prompt", case["prompt"], "--max-tokens", 24, "--math", "f32", "--json", *more)
            self.assertEqual(self.expect(run, OK).json["ids"], case["greedy_ids"][:24], more)

    def test_a_reader_that_leaves(self):
        process = start("generate", DEMO, "--prompt", "x", "--max-tokens", 900, "--ignore-eos")
        process.stdout.read(1)
        process.stdout.close()
        err = process.stderr.read().decode()
        process.stderr.close()
        self.assertEqual(process.wait(timeout=60), FAILED, err)
        self.assertIn("standard output", err)


main()
