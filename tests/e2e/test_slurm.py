#!/usr/bin/env python3
"""Under a real SLURM of two nodes (tests/support/slurm.py): srun gives the text of one rank; a batch job that loses a task, is told to
end, or is cancelled leaves whole lines, is queued again if it should be, and ends with the answers of an uninterrupted run."""
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import slurm as scheduler  # noqa: E402
from shoal_test import BINARY, DEMO, SOURCE, ShoalTest, main, read_lines, shoal, skip, write_lines  # noqa: E402

TEXT = ["generate", DEMO, "--prompt", "And it came to pass, when", "--max-tokens", "12"]
N_LINE = 16


class SlurmTest(ShoalTest):
    @classmethod
    def setUpClass(cls):
        cls.slurm = scheduler.Slurm()
        cls.slurm.__enter__()
        cls.addClassCleanup(cls.slurm.__exit__, None, None, None)

    def write_input(self, max_tokens=40):
        write_lines(self.path("in.jsonl"), [{"id": f"q{i:02d}", "prompt": f"In the beginning {i}", "max_tokens": max_tokens,
                                             "ignore_eos": True} for i in range(N_LINE)])
        self.expect(shoal("batch", DEMO, "--input", self.path("in.jsonl"), "--output", self.path("want.jsonl")), 0)

    def answers(self, name="out.jsonl"):
        lines = read_lines(self.path(name)) if os.path.exists(self.path(name)) else []
        self.assertEqual(len({line["id"] for line in lines}), len(lines), "an id twice")
        for line in lines:
            line.pop("timing", None)
        return sorted(lines, key=lambda line: line["id"])

    def log(self):
        with open(self.path("log"), encoding="utf-8", errors="replace") as log:
            return log.read()

    def ends_as_wanted(self, job):
        self.assertEqual(self.slurm.wait(job), "COMPLETED", self.log() + self.slurm.logs())
        self.assertEqual(self.answers(), self.answers("want.jsonl"), self.log())

    def batch_script(self, *more):
        """scripts/slurm/batch.sbatch with what is marked changed, as a person would."""
        with open(os.path.join(SOURCE, "scripts", "slurm", "batch.sbatch"), encoding="utf-8") as script:
            text = script.read()
        words = " ".join(["batch", DEMO, "--input", self.path("in.jsonl"), "--output", self.path("out.jsonl"), *map(str, more)])
        text, n = re.subn(r"\nshoal=.*?\nrestarts=", f"\nshoal={BINARY}\nrun=({words})\nrestarts=", text, flags=re.S)
        self.assertEqual(n, 1)
        return self.write("script", text)

    def wait_for_answers(self, n):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if os.path.exists(self.path("out.jsonl")):
                with open(self.path("out.jsonl"), encoding="utf-8") as out:
                    if out.read().count("\n") >= n:
                        return
            time.sleep(0.02)
        self.fail(f"no {n} answers: {self.log()}")

    def test_srun(self):
        run = self.slurm.run("srun", "--mpi=pmix", "-N2", BINARY, *TEXT)
        self.expect(run, 0, "2 ranks")
        self.assertEqual(run.out, shoal(*TEXT).out)
        run = self.slurm.run("srun", "-N2", BINARY, *TEXT)
        self.expect(run, 0, "gave them no PMIx: each runs alone; use srun --mpi=pmix")

    def test_a_killed_task_is_queued_again(self):
        """Submitted by launch; the fault is only in the first run."""
        self.write_input()
        strike = self.write("shoal", f"#!/bin/sh\n[ -n \"$SLURM_RESTART_COUNT\" ] || set -- \"$@\" --fault rank=1,step=45,layer=2,do=kill\n"
                                     f"exec {BINARY} \"$@\"\n")
        os.chmod(strike, 0o755)
        cluster = self.write("cluster.yaml", f"""
name: slurm
network: {{ gbit_per_s: 10, latency_us: 50 }}
hosts:
  - {{ name: any, count: 2, cores: 2, memory_gb: 8, memory_bandwidth_gb_per_s: 20, cpu: avx2 }}
launch:
  binary: {strike}
  slurm: {{ partition: main, time: "10:00", options: ["--output={self.path('log')}", "--chdir={self.folder}"] }}
""")
        run = self.slurm.run(BINARY, "launch", "--cluster", cluster, "--slurm", "--restarts", 2, "--", "batch", DEMO, "--input",
                             self.path("in.jsonl"), "--output", self.path("out.jsonl"), "--sequences", 4, "--deadline", 5)
        self.expect(run, 0)
        job = int(re.fullmatch(r"Submitted batch job (\d+)\n", run.out).group(1))
        self.ends_as_wanted(job)
        said = self.log()
        self.assertRegex(said, r"a rank was lost \(status (75|137|143)\); queued again")
        self.assertIn(f"job {job}: run 2 on ", said)
        self.assertNotIn(f"job {job}: run 3 on ", said)
        self.assertRegex(said, r"\d+ answered, 0 bad, [1-9]\d* answered before", "the first run's answers were not kept")

    def test_told_to_end(self):
        """What SLURM does a minute before the end of a job's time: USR1 to the script."""
        self.write_input(max_tokens=200)
        job = self.slurm.submit(f"--output={self.path('log')}", self.batch_script("--sequences", 2))
        self.wait_for_answers(1)
        self.slurm.run("scancel", "--batch", "--signal=USR1", job)
        self.slurm.wait(job, states={"PENDING"} | scheduler._LAST)
        self.assertGreater(len(self.answers()), 0)
        self.assertLess(len(self.answers()), N_LINE, "it was done before it was told")
        self.assertIn("its time is nearly up; queued again", self.log())
        self.ends_as_wanted(job)

    def test_cancelled(self):
        self.write_input(max_tokens=200)
        script = self.batch_script("--sequences", 2)
        job = self.slurm.submit(f"--output={self.path('log')}", script)
        self.wait_for_answers(1)
        self.slurm.run("scancel", job)
        self.assertEqual(self.slurm.wait(job), "CANCELLED")
        time.sleep(1)
        self.assertEqual(self.slurm.state(job), "CANCELLED", "it was queued again")
        self.assertLess(len(self.answers()), N_LINE, "it was done before it was cancelled")
        self.ends_as_wanted(self.slurm.submit(f"--output={self.path('log')}", script))

    def test_sweep(self):
        with open(os.path.join(SOURCE, "scripts", "slurm", "sweep.sbatch"), encoding="utf-8") as script:
            text = script.read()
        sweep = f"{SOURCE}/scripts/sweep {DEMO} --shoal {BINARY} --nodes 1,2 --sequences 2 --prompt-tokens 8 --gen-tokens 4 --repeat 1"
        text, n = re.subn(r"\noutput=.*?\nrestarts=", f"\noutput={self.path('points')}\nsweep=({sweep})\nrestarts=", text, flags=re.S)
        self.assertEqual(n, 1)
        script = self.write("script", text)
        self.assertEqual(self.slurm.run("bash", script, "--count").out, "2\n")
        self.expect(self.slurm.run("bash", script), 2, "sbatch --array")
        self.slurm.submit("--array=0-1%1", "--nodes=2", f"--output={self.path('log')}", f"--chdir={SOURCE}", script)
        self.slurm.wait_for_all()
        self.assertEqual(len([name for name in os.listdir(self.path("points/points")) if name.endswith(".json")]), 2, self.log())

    def test_bad_usage_is_not_tried_again(self):
        self.write_input()
        job = self.slurm.submit(f"--output={self.path('log')}", self.batch_script("--sequencse", 2))
        self.assertEqual(self.slurm.wait(job), "FAILED")
        self.assertIn("ended with status 2", self.log())
        self.assertNotIn("run 2 on", self.log())


REASON = scheduler.missing_privilege()
if REASON:
    skip(REASON)
main()
