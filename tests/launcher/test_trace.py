#!/usr/bin/env python3
"""--trace: the file is what Perfetto reads; spans nest, cover every step, layer and phase, and add up to the reported times; the
clocks of ranks agree; parts of a step are told apart; a failed run leaves what rank 0 knows."""
import collections
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import DEMO, FAILED, TRY_AGAIN, USAGE, ShoalTest, main, need_mpirun, read_json, shoal  # noqa: E402

PHASES = ["attention", "router", "dispatch", "experts", "combine", "shared", "dense", "logits", "sample", "other"]
N_LAYER, N_DENSE = 6, 1  # of the demo model
NANO = 1000  # ns in a us: times are compared as whole ns


def ns(us):
    return round(us * NANO)


class Rank:
    """The spans of one process of the file, as (start, end, event) in ns."""

    def __init__(self, trace, rank):
        events = [e for e in trace["traceEvents"] if e["pid"] == rank]
        self.names = {e["name"]: e["args"] for e in events if e["ph"] == "M"}
        self.counts = [e for e in events if e["ph"] == "C"]
        self.spans = [(ns(e["ts"]), ns(e["ts"]) + ns(e["dur"]), e) for e in events if e["ph"] == "X" and e["tid"] == 0]
        self.layers = [(ns(e["ts"]), ns(e["ts"]) + ns(e["dur"]), e) for e in events if e["ph"] == "X" and e["tid"] == 1]
        self.steps = {e["args"]["step"]: (start, end, e) for start, end, e in self.spans if e["cat"] == "step"}


class Trace(ShoalTest):
    def assertNests(self, spans):
        """In the order of the file every span lies behind the one before or within it; parents come first."""
        open_spans, last = [], 0
        for start, end, event in spans:
            self.assertLessEqual(last, start, event)
            self.assertLessEqual(start, end, event)
            last = start
            while open_spans and open_spans[-1][1] <= start and not (open_spans[-1][1] == start == end):
                open_spans.pop()
            if open_spans:
                self.assertLessEqual(end, open_spans[-1][1], (event, open_spans[-1]))
            if end > start:
                open_spans.append((start, end, event))

    def phase_sums(self, rank):
        """us of each phase without its waits, and of waits within steps."""
        sums, phase, step_end = collections.Counter(), None, 0
        for start, end, event in rank.spans:
            if event["cat"] == "step":
                step_end = end
            elif event["cat"] == "phase":
                phase = (event["name"], end)
                sums[event["name"]] += end - start
            elif end <= step_end:
                sums["wait"] += end - start
                if phase and end <= phase[1]:
                    sums[phase[0]] -= end - start
        return {name: value / NANO for name, value in sums.items()}

    def check(self, trace, result, n_rank):
        self.assertEqual(trace["otherData"]["ranks"], n_rank)
        self.assertNotIn("incomplete", trace["otherData"])
        ranks = [Rank(trace, r) for r in range(n_rank)]
        for r, rank in enumerate(ranks):
            told, clock = result["ranks"][r], trace["otherData"]["rank"][r]
            self.assertEqual(rank.names["process_name"]["name"], f"rank {r} ({told['host']})")
            self.assertEqual(clock["left_out"], 0)
            for when in ("start", "end"):  # one machine, one clock: what is measured is the error alone
                self.assertLessEqual(abs(clock[f"clock_offset_{when}_us"]), clock[f"clock_error_{when}_us"] + 1)
            self.assertNests(rank.spans)
            self.assertNests(rank.layers)
            self.assertEqual(sorted(rank.steps), list(range(told["steps"])))
            self.check_steps(rank, told)
            self.check_sums(rank, told)
        for step, (start, _, _) in ranks[0].steps.items():  # rank 0 begins every step
            for r in range(1, n_rank):
                error = max(trace["otherData"]["rank"][r][f"clock_error_{when}_us"] for when in ("start", "end"))
                self.assertGreaterEqual(ranks[r].steps[step][0], start - (error + 2) * NANO)
        return ranks

    def check_steps(self, rank, told):
        rows = 0
        for number, (start, end, event) in rank.steps.items():
            inside = [e for s, t, e in rank.spans if start <= s and t <= end and e["cat"] == "phase"]
            self.assertTrue(all(e["args"]["step"] == number for e in inside), event)
            rows += event["args"]["rows"]
            seen = {(e["args"].get("layer"), e["name"]) for e in inside}
            if event["args"]["rows"] == 0:
                continue
            for layer in range(N_LAYER):
                names = ["attention", "dense"] if layer < N_DENSE else ["attention", "router", "dispatch", "combine", "shared"]
                for name in names:
                    self.assertIn((layer, name), seen, event)
            self.assertIn((None, "logits"), seen)
        self.assertEqual(rows, told["prompt_rows"] + told["decode_rows"])
        self.assertEqual({e["name"] for e in rank.counts}, {"rows of the step", "bytes sent in the step"})

    def check_sums(self, rank, told):
        sums = self.phase_sums(rank)
        slack = len(rank.spans) * 0.002 + 0.1  # each end is rounded to a ns
        for name in PHASES[:-1] + ["wait"]:  # what is left over is `other`
            self.assertAlmostEqual(sums.get(name, 0), told["phases"][f"{name}_us"], delta=slack, msg=name)
        steps = sum(end - start for start, end, _ in rank.steps.values()) / NANO
        self.assertAlmostEqual(steps, told["step_us"], delta=slack)

    def test_every_rank_count(self):
        for np in (0, 3):
            with self.subTest(np=np):
                path = self.path(f"{np}.json")
                run = shoal("generate", DEMO, "--prompt", "Once upon a time", "--max-tokens", 6, "--json", "--trace", path, np=np)
                self.expect(run, 0, f"{path}: a trace of ")
                ranks = self.check(read_json(path), run.json, np or 1)
                self.assertFalse(os.path.exists(path + ".part"))
                if np == 0:
                    continue
                self.assertTrue(all(any(e["cat"] == "wait" for _, _, e in rank.spans) for rank in ranks))
                for rank in ranks:  # a wait says for whom
                    others = {e["args"]["for_rank"] for _, _, e in rank.spans if e["cat"] == "wait"}
                    self.assertTrue(others <= {0, 1, 2})
                    sent = [e["args"]["sent_bytes"] for _, _, e in rank.spans if e["name"] == "dispatch"]
                    self.assertGreaterEqual(sum(sent), 0)
                self.assertGreater(sum(e["args"]["sent_bytes"] for _, _, e in ranks[0].steps.values()), 0)

    def test_parts(self):
        """A step that is cut says to which part of it a span belongs."""
        text = self.write("text", "the quick brown fish swims over the lazy dog " * 40)
        path = self.path("parts.json")
        self.expect(shoal("perplexity", DEMO, "--file", text, "--context", 512, "--trace", path, np=2), 0)
        for r in range(2):
            rank = Rank(read_json(path), r)
            self.assertNests(rank.spans)
            self.assertNests(rank.layers)
            parts = {e["args"].get("part") for _, _, e in rank.spans if e["name"] == "dispatch"}
            self.assertTrue({1, 2} <= parts, parts)
            self.assertIn("layer 3, part 2", {e["name"] for _, _, e in rank.layers})

    def test_a_failed_run_leaves_rank_0(self):
        path = self.path("failed.json")
        run = shoal("generate", DEMO, "--prompt-ids", "1,2,3", "--max-tokens", 20, "--ignore-eos", "--deadline", 1, "--trace", path,
                    "--fault", "rank=1,step=4,layer=2,do=drop", np=2)
        self.expect(run, TRY_AGAIN, "the trace has rank 0 alone")
        trace = read_json(path)
        self.assertIn("lost", trace["otherData"]["incomplete"])
        self.assertEqual({e["pid"] for e in trace["traceEvents"]}, {0})
        rank = Rank(trace, 0)
        self.assertNests(rank.spans)
        self.assertEqual(max(rank.steps), 4)
        self.assertGreater(max(e["dur"] for _, _, e in rank.spans if e["cat"] == "wait"), 5e5)

    def test_where_it_cannot_be_written(self):
        path = self.path("no-folder/trace.json")
        run = shoal("generate", DEMO, "--prompt-ids", "1", "--trace", path)
        self.expect(run, FAILED, f"{path}.part: creating the trace failed: No such file or directory")
        self.assertEqual(run.out, "")
        one = self.path("one.json")
        run = shoal("generate", DEMO, "--prompt-ids", "1", np=[["--trace", one], []])
        self.expect(run, USAGE, "rank 1 (", "--trace differs from rank 0's")
        self.assertFalse(os.path.exists(one) or os.path.exists(one + ".part"))


need_mpirun()
main()
