#!/usr/bin/env python3
"""shoal batch: answers over ranks, bad lines, resuming, signals."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import *  # noqa: E402,F403


PROMPTS = ["And it came to pass", "def main(", "hacker /n./", "Mr. Darcy"]


def answers(path):
    """By id, without timing."""
    found = {}
    for answer in read_lines(path):
        answer.pop("timing", None)
        assert answer["id"] not in found, f"{answer['id']} is answered twice"
        found[answer["id"]] = answer
    return found


class Batch(ShoalTest):
    def questions(self, n, **more):
        lines = []
        for i in range(n):
            line = {"id": f"q{i}", "prompt": f"{PROMPTS[i % 4]} {i}", "max_tokens": 4 + i % 9, **more}
            if i % 3 == 1:
                line.update(temperature=0.8, top_k=50)
            if i % 6 == 2:
                line.update(temperature=1.0, seed=i)
            lines.append(line)
        write_lines(self.path("in"), lines)
        return self.path("in")

    def batch(self, output, *more, **how):
        return shoal("batch", DEMO, "--input", self.path("in"), "--output", self.path(output), *more, **how)

    def test_ranks_and_batch_mates_do_not_change_answers(self):
        need_mpirun()
        self.questions(24)
        self.expect(self.batch("one", "--sequences", 1), OK)
        alone = answers(self.path("one"))
        self.assertEqual(len(alone), 24)
        for answer in alone.values():
            self.assertEqual(set(answer), {"id", "text", "ids", "finish_reason"})
        self.expect(self.batch("many"), OK, "24 answered, 0 bad")
        self.assertEqual(answers(self.path("many")), alone)
        self.expect(self.batch("ranks", "--sequences", 7, np=3), OK, "3 ranks")
        self.assertEqual(answers(self.path("ranks")), alone)

    def test_an_answer_is_what_generate_says(self):
        write_lines(self.path("in"), [{"id": 1, "prompt": "It is", "max_tokens": 12, "temperature": 0.9, "seed": 5}])
        self.expect(self.batch("out"), OK)
        answer = answers(self.path("out"))[1]
        run = shoal("generate", DEMO, "--prompt", "It is", "--max-tokens", 12, "--temperature", "0.9", "--seed", 5, "--json")
        for key in ("ids", "text", "finish_reason"):
            self.assertEqual(answer[key], run.json[key])

    def test_seed_of_a_line(self):
        lines = [{"id": f"s{i}", "prompt": "It is", "max_tokens": 12, "temperature": 1} for i in range(3)]
        write_lines(self.path("in"), lines)
        self.expect(self.batch("a", "--seed", 1), OK)
        self.expect(self.batch("b", "--seed", 1), OK)
        self.expect(self.batch("c", "--seed", 2), OK)
        a, b, c = (answers(self.path(name)) for name in "abc")
        self.assertEqual(a, b)
        self.assertNotEqual(a, c)
        self.assertNotEqual(a["s0"]["ids"], a["s1"]["ids"])

    def test_bad_lines(self):
        write_lines(self.path("in"), [
            {"id": "good", "prompt": "x", "max_tokens": 2},
            '{"id": "torn',
            {"prompt": "no id"},
            "",
            {"id": "good", "prompt": "again"},
            {"id": "chat", "messages": [{"role": "user", "content": "x"}]},
            {"id": "range", "prompt_ids": [4096]},
            {"id": "long", "prompt_ids": [5] * 1024},
            {"id": 9, "prompt_ids": [5, 6], "max_tokens": 2},
        ])
        for np in (0, 2):
            run = self.expect(self.batch(f"out{np}", np=np), BAD_DATA, "6 bad lines")
            found = answers(self.path(f"out{np}"))
            self.assertEqual(set(found), {"good", "line 2", "line 3", "chat", "range", "long", 9}, run)
            for key in ("line 2", "line 3", "chat", "range", "long"):
                self.assertEqual(set(found[key]), {"id", "error"})
            self.assertEqual(len(found["good"]["ids"]), 2)
            self.assertEqual(len(found[9]["ids"]), 2)
        run = self.expect(self.batch("out0", "--resume"), BAD_DATA, "0 answered")  # still bad
        self.assertEqual(len(answers(self.path("out0"))), 7)

    def test_resume(self):
        self.questions(12)
        self.expect(self.batch("whole"), OK)
        with open(self.path("whole"), "rb") as file:
            lines = file.read().splitlines(keepends=True)
        for n_whole, torn in ((0, 5), (4, 30), (11, 1), (12, 0)):
            with open(self.path("part"), "wb") as file:
                file.write(b"".join(lines[:n_whole]) + (lines[n_whole][:torn] if torn else b""))
            self.expect(self.batch("part"), USAGE, "--resume")
            self.expect(self.batch("part", "--resume"), OK, f"{12 - n_whole} answered", f"{n_whole} answered before")
            self.assertEqual(answers(self.path("part")), answers(self.path("whole")))

    def test_an_empty_input(self):
        self.write("in", "")
        self.expect(self.batch("out"), OK, "0 answered")
        self.assertEqual(read_lines(self.path("out")), [])

    def test_input_is_not_output(self):
        self.questions(2)
        self.expect(self.batch("in", "--resume"), USAGE, "same file")
        self.assertEqual(len(read_lines(self.path("in"))), 2)

    def interrupt(self, number, np):
        """Signal a batch that has answered something; the answers, which are whole and not all."""
        output = self.path(f"signal{number}.{np}")
        process = start("batch", DEMO, "--input", self.path("in"), "--output", output, np=np)
        deadline = time.monotonic() + 100
        while (not os.path.exists(output) or os.path.getsize(output) == 0) and time.monotonic() < deadline:
            time.sleep(0.02)
        sent = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        seconds = time.monotonic() - sent
        self.assertIn(process.returncode, (TRY_AGAIN,) if np == 0 else (TRY_AGAIN, 143, 1), err)
        self.assertLess(seconds, 30, err)  # whether within a second is for a quiet machine to say
        n = len(read_lines(output))
        self.assertGreater(n, 0)
        self.assertLess(n, 80, "it ended before the signal came")
        return output

    def test_signals(self):
        need_mpirun()
        n = 12 if SANITIZED else 30  # long enough to be interrupted
        write_lines(self.path("in"), [{"id": i, "prompt": PROMPTS[i % 4], "max_tokens": n, "ignore_eos": True} for i in range(80)])
        self.interrupt(signal.SIGINT, 0)
        self.interrupt(signal.SIGTERM, 0)
        output = self.interrupt(signal.SIGUSR1, 2)  # mpirun passes it on at once, SIGTERM after a second
        n = len(read_lines(output))
        run = shoal("batch", DEMO, "--input", self.path("in"), "--output", output, "--resume", np=2)
        self.expect(run, OK, f"{n} answered before")
        self.assertEqual(len(answers(output)), 80)

    def test_a_full_disk(self):
        self.questions(30)
        limited = f"ulimit -f 2; exec {BINARY} batch {DEMO} --input {self.path('in')} --output {self.path('out')}"
        process = subprocess.run(["bash", "-c", limited], capture_output=True, env=environment(), timeout=60)
        self.assertEqual(process.returncode, FAILED, process.stderr)
        self.assertIn(b"finished lines are whole", process.stderr)
        n = len(read_lines(self.path("out")))
        self.assertGreater(n, 0)
        self.expect(self.batch("out", "--resume"), OK, f"{n} answered before")


main()
