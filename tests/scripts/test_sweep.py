#!/usr/bin/env python3
"""scripts/sweep: figures, table and plots from hand-made records; going on after an interruption, with a bench that only answers; and two
real points on models/demo."""
import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import xml.etree.ElementTree

SOURCE = os.environ["SHOAL_SOURCE_DIR"]
SCRIPT = os.path.join(SOURCE, "scripts", "sweep")
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(SOURCE, "scripts", "experiment"))
import figures  # noqa: E402
import plot  # noqa: E402
import points  # noqa: E402
import table  # noqa: E402

PHASES = "attention router dispatch experts combine shared dense logits sample other wait".split()
# A bench that does not measure: rank 0 notes the call, and hangs or fails where the environment says so.
FAKE = """#!/bin/sh
[ "${OMPI_COMM_WORLD_RANK-0}" = 0 ] || exit 0
[ "$1" = bench ] || { echo "fake 1"; exit 0; }
echo "$*" >>"$FAKE_CALLS"
case " $* " in
*" --sequences ${FAKE_HANG-none} "*) sleep 60 ;;
*" --sequences ${FAKE_FAIL-none} "*) echo "no memory for anything" >&2; exit 1 ;;
esac
cat "$FAKE_ANSWER"
"""


def half(n_rank, phases, idle=0, imbalance=1.0):
    """One half of a bench's answer: the same phases in us on each rank unless a list says otherwise."""
    ranks = []
    for rank in range(n_rank):
        mine = {name: (value[rank] if isinstance(value, list) else value) for name, value in phases.items()}
        ranks.append(dict(rank=rank, idle_us=idle, phases={f"{name}_us": mine.get(name, 0) for name in PHASES}))
    return dict(time_us=sum(ranks[0]["phases"].values()) + idle, steps=1, tokens=1, expert_imbalance=imbalance, ranks=ranks)


def bench(n_rank, decode, prefill):
    """decode, prefill: (tok/s, min, max)"""
    answer = dict(ranks=[dict(rank=rank, threads=1) for rank in range(n_rank)])
    for name, speed in (("decode", decode), ("prefill", prefill)):
        key = f"{name}_tok_per_s"
        answer.update({key: speed[0], key + "_min": speed[1], key + "_max": speed[2]})
        answer[name] = half(n_rank, dict(experts=60, attention=20, wait=10 * (n_rank > 1), dispatch=5 * (n_rank > 1)), idle=5)
    return answer


def record(nodes, sequences, decode, prefill=(1000, 900, 1100), plan=None):
    return dict(format=points.FORMAT, point=dict(nodes=nodes, prompt_tokens=128, sequences=sequences),
                run=dict(model="a'b `date` model", where="four boxes", gen_tokens=64, repeat=3, ranks_per_node=1, options=["--weights", "q4"],
                         started="2026-01-02T03:04:05+00:00", one_machine=True),
                machine=dict(cpu="a processor", cores=2, memory_gb=24.6, kernel="6.1"), versions=dict(shoal="shoal 9", mpi="mpirun 4"),
                bench=bench(nodes, decode, prefill), plan=plan)


def put(folder, *records):
    for one in records:
        points.write(folder, points.Point(**one["point"]), one)


class Figures(unittest.TestCase):
    def test_shares_add_up(self):
        # 100 us on each of two ranks: rank 0 attends alone, the other waits for it; experts are 1.5 times the mean at most.
        two = half(2, dict(attention=[20, 0], experts=[40, 40], dispatch=[4, 4], combine=[2, 2], wait=[30, 50]), idle=4, imbalance=1.5)
        shares = figures.shares_of(two)
        self.assertAlmostEqual(sum(shares.values()), 1)
        self.assertAlmostEqual(shares["compute"], 0.50)    # 40 + the mean of 20 and 0
        self.assertAlmostEqual(shares["imbalance"], 0.30)  # 40 * 0.5 + 20 - 10
        self.assertAlmostEqual(shares["wire"], 0.16)       # 4 + 2 + the 40 of waiting that are left of 40 - 30
        self.assertAlmostEqual(shares["wait"], 0.04)

    def test_imbalance_is_no_more_than_the_waiting(self):
        shares = figures.shares_of(half(2, dict(attention=[50, 0], experts=[40, 40], wait=[10, 10]), imbalance=3))
        self.assertAlmostEqual(shares["wire"], 0)
        self.assertAlmostEqual(sum(shares.values()), 1)

    def test_one_rank_has_no_imbalance(self):
        shares = figures.shares_of(half(1, dict(experts=90, wait=0), idle=10, imbalance=1))
        self.assertEqual((shares["imbalance"], shares["wire"]), (0, 0))
        self.assertAlmostEqual(shares["compute"], 0.9)

    def test_speed_up_is_against_the_fewest_nodes_of_the_same_kind(self):
        lines = figures.lines([record(2, 1, (50, 40, 60)), record(4, 1, (75, 70, 80)), record(1, 8, (100, 90, 110)), record(4, 8, (300, 1, 400))])
        got = {(line.nodes, line.sequences): (line.speed_up, line.efficiency) for line in lines if line.half == "decode"}
        self.assertEqual(got, {(2, 1): (1.0, 1.0), (4, 1): (1.5, 0.75), (1, 8): (1.0, 1.0), (4, 8): (3.0, 0.75)})

    def test_crowded(self):
        lines = figures.lines([record(2, 1, (1, 1, 1)), record(4, 1, (1, 1, 1))])
        self.assertEqual([line.crowded for line in lines], [False, True] * 2)

    def test_a_prediction_that_does_not_fit_is_none(self):
        plans = [dict(fits=False, decode_tok_per_s=5), dict(fits=True, decode_tok_per_s=7), None]
        lines = figures.lines([record(1, i + 1, (1, 1, 1), plan=plan) for i, plan in enumerate(plans)])
        self.assertEqual([line.predicted for line in lines if line.half == "decode"], [None, 7, None])


class Table(unittest.TestCase):
    records = [record(1, 8, (100, 90.04, 110)), record(4, 8, (300, 280, 320), plan=dict(fits=True, decode_tok_per_s=330, prefill_tok_per_s=1000,
                                                                                         **{"from": "rack.yaml"}))]

    def test_text(self):
        text = table.text(figures.lines(self.records), figures.describe(self.records))
        lines = [line.split() for line in text.splitlines()]
        self.assertIn("decode 4* 8 128 300 280 .. 320 3.00 75 % 80 % 15 % 0 % 5 % 330 +10 %".split(), lines)
        self.assertIn("decode 1 8 128 100 90.0 .. 110 1.00 100 % 94 % 0 % 0 % 6 %".split(), lines)
        for word in ("four boxes", "--weights q4", "a processor, 2 cores, 25 GB", "2026-01-02", "rack.yaml", "share the cores"):
            self.assertIn(word, text)

    def test_markdown_and_csv(self):
        lines = figures.lines(self.records)
        rows = [row for row in table.markdown(lines, [], [("decode-p128", "Decode")]).splitlines() if row.startswith("|")]
        self.assertEqual({row.count("|") for row in rows}, {15})
        self.assertEqual(len(rows), 2 + 4)
        cells = [row.split(",") for row in table.comma_separated(lines).splitlines()]
        self.assertEqual({len(row) for row in cells}, {len(table.CSV_HEAD)})
        self.assertEqual(cells[2][:8], ["decode", "4", "4", "8", "128", "300", "280", "320"])

    def test_no_columns_for_predictions_that_nobody_made(self):
        text = table.text(figures.lines(self.records[:1]), [])
        self.assertNotIn("predicted", text)


class Points(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="shoal-sweep-")
        self.addCleanup(shutil.rmtree, self.folder)

    def test_a_torn_file_is_no_point(self):
        put(self.folder, record(1, 1, (1, 1, 1)))
        path = points.path(self.folder, points.Point(1, 128, 1))
        with open(path, encoding="utf-8") as file:
            text = file.read()
        for torn in (text[:len(text) // 2], "", "[]", '{"format": 1}', '{"format": 2}'):
            with open(path, "w", encoding="utf-8") as file:
                file.write(torn)
            self.assertIsNone(points.read_wanted(self.folder, points.Point(1, 128, 1), {}))
            self.assertEqual(points.read_all(self.folder), ([], [path]))

    def test_another_sweep(self):
        put(self.folder, record(1, 1, (1, 1, 1)))
        self.assertIsNotNone(points.read_wanted(self.folder, points.Point(1, 128, 1), dict(gen_tokens=64)))
        with self.assertRaisesRegex(points.Mismatch, "gen_tokens is 64, wanted is 32"):
            points.read_wanted(self.folder, points.Point(1, 128, 1), dict(gen_tokens=32))


class Plots(unittest.TestCase):
    def test_labels_are_spread(self):
        places = plot.spread([1.0, 1.0, 5.0, 1.1], 0.5, 0, 10)
        ordered = sorted(places)
        self.assertTrue(all(b - a >= 0.499 for a, b in zip(ordered, ordered[1:])), places)
        self.assertEqual(places[2], 5.0)

    def test_report(self):
        if plot.missing():
            self.skipTest(plot.missing())
        with tempfile.TemporaryDirectory(prefix="shoal-sweep-") as folder:
            plan = dict(fits=True, decode_tok_per_s=90, prefill_tok_per_s=900, **{"from": "rack.yaml"})
            put(folder, *(record(n, b, (50 * n * b, 45 * n * b, 55 * n * b), plan=copy.copy(plan)) for n in (1, 2, 4) for b in (1, 8)))
            made = [self.report(folder) for _ in range(2)]
            self.assertEqual(made[0].keys(), made[1].keys())
            for name in made[0]:
                self.assertEqual(made[0][name], made[1][name], f"{name} differs though the points are the same")
            names = ["decode-p128", "predicted", "prefill-p128", "shares-p128", "speed-up-p128"]
            self.assertEqual(sorted(name[:-4] for name in made[0] if name.endswith(".svg")), names)
            for name in names:
                png = made[0][name + ".png"]
                self.assertEqual(png[:8], b"\x89PNG\r\n\x1a\n")
                self.assertEqual([int.from_bytes(png[16 + i:20 + i], "big") for i in (0, 4)], [2 * plot.WIDTH, 2 * plot.HEIGHT])
                texts = " ".join(xml.etree.ElementTree.fromstring(made[0][name + ".svg"]).itertext())
                self.assertIn("a'b `date` model on four boxes", " ".join(texts.split()))
                self.assertIn(f"{name}.png", made[0]["report.md"].decode())
            decode = " ".join(xml.etree.ElementTree.fromstring(made[0]["decode-p128.svg"]).itertext())
            for word in ("8 sequences", "1 sequence", "nodes", "tok/s", "ideal", "predicted", "4*", "more threads than it has cores"):
                self.assertIn(word, decode)

    def report(self, folder):
        done = subprocess.run([SCRIPT, "--report", "--output", folder], capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        files = {}
        for name in os.listdir(folder):
            if name != "points":
                with open(os.path.join(folder, name), "rb") as file:
                    files[name] = file.read()
                os.unlink(os.path.join(folder, name))
        self.assertEqual(done.stdout, files["table.txt"])
        return files


class Runs(unittest.TestCase):
    """With a bench that only answers."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="shoal-sweep-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.output, self.calls = os.path.join(self.folder, "out"), os.path.join(self.folder, "calls")
        self.fake = os.path.join(self.folder, "shoal")
        with open(self.fake, "w", encoding="ascii") as out:
            out.write(FAKE)
        os.chmod(self.fake, 0o755)
        with open(os.path.join(self.folder, "answer"), "w", encoding="ascii") as out:
            json.dump(bench(1, (10, 9, 11), (100, 90, 110)), out)
        self.words = [SCRIPT, "models/demo", "--nodes", "1", "--sequences", "1,2,3", "--output", self.output, "--shoal", self.fake]

    def environment(self, **more):
        return dict(os.environ, FAKE_CALLS=self.calls, FAKE_ANSWER=os.path.join(self.folder, "answer"), **more)

    def sweep(self, *words, **environment):
        return subprocess.run([*self.words, *words], capture_output=True, text=True, check=False, env=self.environment(**environment))

    def called(self):
        with open(self.calls, encoding="ascii") as file:
            return [line.split()[line.split().index("--sequences") + 1] for line in file]

    def test_interrupted_and_resumed(self):
        with subprocess.Popen(self.words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment(FAKE_HANG="2")) as process:
            limit = time.monotonic() + 30
            while not (os.path.exists(self.calls) and len(self.called()) == 2) and time.monotonic() < limit:
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 75, err)
        self.assertEqual(os.listdir(os.path.join(self.output, "points")), ["n1-p128-s1.json"])
        done = self.sweep()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.called(), ["1", "2", "2", "3"])
        self.assertIn("decode", done.stdout)
        self.assertEqual(self.sweep().returncode, 0)
        self.assertEqual(len(self.called()), 4, "points that are there are not run again")

    def test_a_failed_point_does_not_stop_the_others(self):
        done = self.sweep(FAKE_FAIL="2")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no memory for anything", done.stderr)
        self.assertEqual(sorted(os.listdir(os.path.join(self.output, "points"))), ["n1-p128-s1.json", "n1-p128-s2.log", "n1-p128-s3.json"])

    def test_array(self):
        self.assertEqual(self.sweep("--count").stdout, "3\n")
        for i in (2, 0, 1):
            self.assertEqual(self.sweep("--point", str(i)).returncode, 0)
        self.assertEqual(self.called(), ["3", "1", "2"])
        self.assertFalse(os.path.exists(os.path.join(self.output, "table.txt")))
        self.assertEqual(self.sweep("--point", "3").returncode, 2)

    def test_other_settings_are_refused(self):
        self.assertEqual(self.sweep("--point", "0").returncode, 0)
        done = self.sweep("--gen-tokens", "5")
        self.assertEqual(done.returncode, 65)
        self.assertIn("gen_tokens is 64, wanted is 5", done.stderr)

    def test_usage(self):
        for words, word in ((["--nodes", "0"], "at least 1"), (["--sequences", "1,1"], "none twice"), (["--nonsense"], "nonsense"),
                            (["--rate", "1gbit"], "--namespaces"), (["--hosts", "f", "--srun"], "exclude")):
            done = self.sweep(*words)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn(word, done.stderr)
        self.assertEqual(self.sweep("--hosts", os.path.join(self.folder, "nowhere")).returncode, 69)
        self.assertEqual(subprocess.run([SCRIPT, "--report", "--output", self.folder], capture_output=True, check=False).returncode, 65)
        self.assertIn("usage", subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, check=True).stdout)


class Real(unittest.TestCase):
    def test_two_points(self):
        shoal = os.path.join(os.environ["SHOAL_BUILD_DIR"], "shoal")
        with tempfile.TemporaryDirectory(prefix="shoal-sweep-") as folder:
            done = subprocess.run([SCRIPT, os.path.join(SOURCE, "models", "demo"), "--nodes", "1,2", "--sequences", "2", "--prompt-tokens", "8",
                                   "--gen-tokens", "3", "--repeat", "2", "--output", folder, "--shoal", shoal, "--", "--threads", "1"],
                                  capture_output=True, text=True, check=False)
            gnuplot = plot.missing() is None
            self.assertEqual(done.returncode, 0 if gnuplot else 1, done.stderr)
            records, broken = points.read_all(folder)
            self.assertEqual((len(records), broken), (2, []))
            self.assertEqual([len(one["bench"]["ranks"]) for one in records], [1, 2])
            self.assertEqual(records[1]["run"]["command"][0], "mpirun")
            for line in figures.lines(records):
                self.assertGreater(line.speed[0], 0)
                self.assertAlmostEqual(sum(line.shares.values()), 1)
            self.assertEqual(os.path.exists(os.path.join(folder, "decode-p8.png")), gnuplot)


unittest.main(verbosity=1)
