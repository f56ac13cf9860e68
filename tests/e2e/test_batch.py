#!/usr/bin/env python3
"""batch: 64 prompts over 3 ranks equal the one-rank answers; an interrupted run is resumed to the same answers."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import DEMO, ShoalTest, main, need_mpirun, read_lines, shoal, start, write_lines  # noqa: E402

WORDS = ["And it came to pass", "def main(", "Emma was", "hacker /n./", "The LORD", "import os", "It is a truth", "[from"]


class Batch(ShoalTest):
    def write_input(self, n, max_tokens):
        lines = []
        for i in range(n):
            line = {"id": f"q{i}", "prompt": f"{WORDS[i % len(WORDS)]}{' ' * (i % 3)}{i}", "max_tokens": max_tokens - i % 7}
            if i % 2:
                line.update(temperature=0.8, top_p=0.9)
            lines.append(line)
        write_lines(self.path("in.jsonl"), lines)

    def answers(self, name):
        """Sorted by id, without timing; whole lines, no id twice."""
        lines = read_lines(self.path(name))
        self.assertEqual(len({line["id"] for line in lines}), len(lines), "an id twice")
        for line in lines:
            line.pop("timing", None)
        return sorted(lines, key=lambda line: line["id"])

    def batch(self, name):
        return ["batch", DEMO, "--input", self.path("in.jsonl"), "--output", self.path(name)]

    def test_same_answers_over_ranks(self):
        self.write_input(64, 24)
        self.expect(shoal(*self.batch("one.jsonl")), 0)
        want = self.answers("one.jsonl")
        self.assertEqual(len(want), 64)
        for np, options in [(3, []), (2, ["--sequences", 5, "--prefill-chunk", 7])]:
            name = f"out{np}.jsonl"
            self.expect(shoal(*self.batch(name), *options, np=np), 0)
            self.assertEqual(self.answers(name), want)

    def test_resumed_after_a_signal(self):
        self.write_input(48, 60)
        self.expect(shoal(*self.batch("whole.jsonl")), 0)
        part = self.path("part.jsonl")
        process = start(*self.batch("part.jsonl"), "--sequences", 2, np=2)
        while process.poll() is None and not (os.path.exists(part) and os.path.getsize(part) > 1000):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)
        self.assertGreater(len(self.answers("part.jsonl")), 0, "nothing was finished before the signal")
        with open(part, "a", encoding="utf-8") as out:
            out.write('{"id": "q47", "text": "torn')  # what a machine that lost power leaves
        self.expect(shoal(*self.batch("part.jsonl"), "--resume", np=2), 0)
        self.assertEqual(self.answers("part.jsonl"), self.answers("whole.jsonl"))


need_mpirun()
main()
