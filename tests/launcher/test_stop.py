#!/usr/bin/env python3
"""Stop strings and end tokens: where the text ends, what the ids are, over ranks."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import *  # noqa: E402,F403


EXPECTED = read_json(os.path.join(DEMO, "expected.json"))["greedy"]
CASE = EXPECTED[0]
TEXT, IDS = CASE["text"], CASE["greedy_ids"]


def copy_of_demo(folder, **files):
    """The demo with some JSON files changed: name without .json = dictionary of keys to set."""
    for name in os.listdir(DEMO):
        os.symlink(os.path.join(DEMO, name), os.path.join(folder, name))
    for name, keys in files.items():
        path = os.path.join(folder, name + ".json")
        document = dict(read_json(path), **keys)
        os.unlink(path)
        with open(path, "w", encoding="utf-8") as file:
            json.dump(document, file)
    return folder


class Stop(ShoalTest):
    def generate(self, *more, model=DEMO, np=0):
        return shoal("generate", model, "--prompt", CASE["prompt"], "--max-tokens", len(IDS), "--math", "f32", *more, np=np)

    def check_cut(self, *stops, np=0):
        arguments = [a for stop in stops for a in ("--stop", stop)]
        answer = self.expect(self.generate(*arguments, "--json", np=np), OK).json
        end = min(TEXT.index(stop) + len(stop) for stop in stops if stop in TEXT)
        begin = min(TEXT.index(stop) for stop in stops if stop in TEXT and TEXT.index(stop) + len(stop) == end)
        self.assertEqual(answer["text"], TEXT[:begin])
        self.assertEqual(answer["finish_reason"], "stop")
        ids = answer["ids"]
        self.assertEqual(ids, IDS[:len(ids)])
        self.assertLess(len(ids), len(IDS))
        # the ids are those up to the one that completed the stop string
        decoded = shoal("tokenize", DEMO, "--decode", stdin=f"{ids}\n{ids[:-1]}\n").out.splitlines()
        whole, less = (json.loads(line) for line in decoded)
        self.assertIn(TEXT[begin:end], whole)
        self.assertFalse(any(stop in less for stop in stops))
        return answer

    def test_text_ends_in_front_of_it(self):
        middle = len(TEXT) // 2
        for stop in (TEXT[middle:middle + 1], TEXT[middle:middle + 9], TEXT[3:20], TEXT[0]):
            self.check_cut(stop)
        self.check_cut("not in it", TEXT[middle:middle + 5], TEXT[middle + 1:middle + 3])

    def test_the_stream_shows_nothing_of_it(self):
        stop = TEXT[30:38]
        run = self.expect(self.generate("--stop", stop), OK, "generated")
        self.assertEqual(run.out, TEXT[:TEXT.index(stop)] + "\n")

    def test_none_that_matches(self):
        for stop in ("not in it", TEXT[-4:] + "x"):
            answer = self.expect(self.generate("--ignore-eos", "--stop", stop, "--json"), OK).json
            self.assertEqual((answer["text"], answer["ids"]), (TEXT, IDS))
            self.assertEqual(answer["finish_reason"], "length")

    def test_over_ranks(self):
        need_mpirun()
        stop = TEXT[25:31]
        alone = self.check_cut(stop)
        self.assertEqual(self.check_cut(stop, np=2)["ids"], alone["ids"])

    def test_with_drafts(self):  # a step gives several tokens, and what comes behind the stop string is dropped
        stop = TEXT[25:31]
        alone = self.check_cut(stop)
        for draft in ("ngram", "mtp"):
            answer = self.expect(self.generate("--stop", stop, "--draft", draft, "--json"), OK).json
            self.assertEqual((answer["text"], answer["ids"]), (alone["text"], alone["ids"]))

    def test_bad_ones(self):
        self.expect(self.generate("--stop", ""), USAGE, "--stop")
        self.expect(self.generate(*["--stop", "x"] * 17), USAGE, "16")
        run = shoal("generate", golden("deepseek_v3"), "--prompt-ids", "1,2", "--stop", "x")
        self.expect(run, NO_INPUT, "tokenizer.json")

    def test_batch(self):
        need_mpirun()
        stop = TEXT[25:31]
        lines = [{"id": f"a{i}", "prompt": CASE["prompt"], "max_tokens": len(IDS)} for i in range(4)]
        lines[1]["stop"] = stop
        lines[2]["stop"] = ["not in it", TEXT[3:12]]
        lines[3]["stop"] = []
        more = [{"id": f"m{i}", "prompt": f"{i}", "max_tokens": 20, "stop": "e"} for i in range(12)]
        bad = {"id": "bad", "prompt": "x", "stop": [""]}
        write_lines(self.path("in"), lines + more + [bad])
        outputs = []
        for np in (0, 2):
            output = self.path(f"out{np}")
            run = shoal("batch", DEMO, "--input", self.path("in"), "--output", output, "--math", "f32", "--ignore-eos",
                        "--sequences", 3, "--stop", TEXT[40:44], np=np)
            self.expect(run, BAD_DATA, "16 answered, 1 bad")
            found = {answer["id"]: answer for answer in read_lines(output)}
            for answer in found.values():
                answer.pop("timing", None)
            outputs.append(found)
        self.assertEqual(outputs[0], outputs[1])
        found = outputs[0]
        self.assertIn("stop", found["bad"]["error"])
        self.assertEqual(found["a0"]["text"], TEXT[:TEXT.index(TEXT[40:44])])
        self.assertEqual(found["a1"]["text"], TEXT[:TEXT.index(stop)])
        self.assertEqual(found["a2"]["text"], TEXT[:3])
        self.assertEqual((found["a3"]["text"], found["a3"]["finish_reason"]), (TEXT, "length"))
        for i in range(12):
            answer = found[f"m{i}"]
            self.assertNotIn("e", answer["text"])
            self.assertEqual(answer["finish_reason"], "stop" if len(answer["ids"]) < 20 else answer["finish_reason"])

    def test_every_end_token_of_the_generation_config(self):
        for end in (IDS[5], IDS[9]):
            folder = self.path(f"model{end}")
            os.mkdir(folder)
            copy_of_demo(folder, generation_config={"eos_token_id": [1, end]})
            answer = self.expect(self.generate("--json", model=folder), OK).json
            self.assertEqual(answer["ids"], IDS[:IDS.index(end)])
            self.assertEqual(answer["finish_reason"], "stop")
            answer = self.expect(self.generate("--json", "--ignore-eos", model=folder), OK).json
            self.assertEqual(answer["ids"], IDS)


main()
