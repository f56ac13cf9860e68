#!/usr/bin/env python3
"""Ranks on hosts of their own, joined by TCP: a rank is killed, a link goes down, a host loses its power, a disk is full. Every
rank that survives is gone in time, the lost one is named with its host, the step and when it was last heard, finished answers
are whole, and --resume gives what an uninterrupted run gives."""
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import hosts as network  # noqa: E402
from shoal_test import BINARY, DEMO, FAILED, OK, TRY_AGAIN, ShoalTest, main, read_lines, shoal, skip, write_lines  # noqa: E402

DEADLINE_S = 2
SLACK_S = 20  # of a machine that does many other things; what a quiet one needs is in docs/CLUSTER.md
N_LINE = 60


def answers(path):
    """By id, without timing; whole lines, no id twice."""
    found = {}
    for answer in read_lines(path):
        answer.pop("timing", None)
        assert answer["id"] not in found, f"{answer['id']} twice"
        found[answer["id"]] = answer
    return found


class LostHost(ShoalTest):
    @classmethod
    def setUpClass(cls):
        cls.common = tempfile.TemporaryDirectory(prefix="shoal-test-")
        cls.input = os.path.join(cls.common.name, "in.jsonl")
        write_lines(cls.input, [{"id": i, "prompt": f"And it came to pass {i}", "max_tokens": 20 + i % 5, "ignore_eos": True,
                                 "temperature": 0.7 * (i % 2)} for i in range(N_LINE)])
        whole = os.path.join(cls.common.name, "whole.jsonl")
        run = shoal("batch", DEMO, "--input", cls.input, "--output", whole)
        assert run.code == OK, run
        cls.whole = answers(whole)

    @classmethod
    def tearDownClass(cls):
        cls.common.cleanup()

    def batch(self, output, *more):
        return [BINARY, "batch", DEMO, "--input", self.input, "--output", output, "--sequences", "4", "--deadline", str(DEADLINE_S),
                *more]

    def begin(self, hosts, err, *more):
        """A batch that has answered something, or has ended before."""
        output = self.path("out.jsonl")
        process = hosts.start(self.batch(output, *more), stdout=subprocess.DEVNULL, stderr=err)
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None and not (os.path.exists(output) and os.path.getsize(output) > 0):
            time.sleep(0.01)
        return process

    def strike(self, hosts, act, *more):
        """A batch that `act` happens to once it has answered something; stderr, mpirun's status and the seconds until all ranks
        were gone. mpirun itself may hang when a link is down: `shoal launch` ends it then, and so does this."""
        with open(self.path("err"), "w+", encoding="utf-8") as err:
            process = self.begin(hosts, err, *more)
            for _ in range(2):
                if process.poll() is None:
                    break
                err.seek(0)
                self.assertIn(network.NOT_STARTED, err.read(), "it ended before it answered anything")
                process = self.begin(hosts, err, *more)
            self.assertIsNone(process.poll(), "mpirun does not start")
            if act is not None:
                act()
            began = time.monotonic()
            while hosts.pids(BINARY) and time.monotonic() - began < DEADLINE_S + SLACK_S:
                time.sleep(0.05)
            seconds = time.monotonic() - began
            left = hosts.pids(BINARY)
            try:
                process.wait(timeout=4)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            err.seek(0)
            text = err.read()
        self.assertEqual(left, [], f"ranks still run after {seconds:.1f} s\n{text}")
        return text, process.returncode, seconds

    def expect_named(self, text, rank, n_rank=3):
        """The rank, its host, where and when it was last heard; and no other rank is called lost."""
        self.assertRegex(text, rf"rank {rank} \(fish{rank + 1}\) (is lost: silent|has not answered since the signal)"
                               r"[^\n]* at step \d+, (layer \d+|outside the layers)[;:]? [^\n]*last heard \d+\.\d s ago")
        for other in range(n_rank):
            if other != rank:
                self.assertNotRegex(text, rf"rank {other} \(fish{other + 1}\) is lost")

    def expect_resumable(self):
        n = len(answers(self.path("out.jsonl")))  # reads whole lines only
        self.assertLess(n, N_LINE, "nothing was left to lose")
        run = shoal(*self.batch(self.path("out.jsonl"), "--resume")[1:])
        self.expect(run, OK, f"{n} answered before")
        self.assertEqual(answers(self.path("out.jsonl")), self.whole)

    def test_killed(self):
        with network.Hosts(3) as hosts:
            text, code, _ = self.strike(hosts, None, "--fault", "rank=2,step=40,layer=2,do=kill")
            self.assertIn(code, (137, TRY_AGAIN, 143, 1), text)
            self.expect_named(text, 2)
        self.expect_resumable()

    def test_link_down(self):
        with network.Hosts(3) as hosts:
            text, code, _ = self.strike(hosts, lambda: hosts.link_down(1))
            self.expect_named(text, 1)
        self.expect_resumable()

    def test_power_off(self):
        with network.Hosts(3) as hosts:
            text, code, _ = self.strike(hosts, lambda: hosts.power_off(2))
            self.expect_named(text, 2)
            self.assertEqual(hosts.pids(BINARY), [])
        self.expect_resumable()


def missing_mounts(folder):
    """None if a small file system can be mounted on `folder`."""
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "shoal-test", folder], capture_output=True)
    return None if made.returncode == 0 else "no privilege to mount a small file system"


class FullDisk(ShoalTest):
    def setUp(self):
        super().setUp()
        self.disk = self.path("disk")
        os.mkdir(self.disk)
        reason = missing_mounts(self.disk)
        if reason:
            self.skipTest(reason)
        self.addCleanup(subprocess.run, ["umount", self.disk], check=True)

    def remount(self, options):
        subprocess.run(["mount", "-o", f"remount,{options}", self.disk], check=True)

    def test_full_and_read_only(self):
        write_lines(self.path("in"), [{"id": i, "prompt": f"x {i}", "max_tokens": 40, "ignore_eos": True} for i in range(60)])
        batch = ["batch", DEMO, "--input", self.path("in"), "--output", os.path.join(self.disk, "out")]
        self.expect(shoal("batch", DEMO, "--input", self.path("in"), "--output", self.path("whole")), OK)
        run = self.expect(shoal(*batch, np=2), FAILED, "No space left on device", "finished lines are whole", "--resume")
        self.assertEqual(len(run.errors()), 2, run)  # of rank 0, and of rank 1 that was told
        n = len(answers(batch[-1]))
        self.assertTrue(0 < n < 60, run)
        self.expect(shoal(*batch, "--resume"), FAILED, "No space left on device")  # still full
        self.remount("ro,size=16k")
        self.expect(shoal(*batch[:-1], os.path.join(self.disk, "other")), FAILED, "Read-only file system")
        self.remount("rw,size=1m")
        self.expect(shoal(*batch, "--resume", np=2), OK)
        self.assertEqual(answers(batch[-1]), answers(self.path("whole")))


REASON = network.missing_privilege()
if REASON:
    skip(REASON)
main()
