#!/usr/bin/env python3
"""What happens in the phases that a fault in a step does not reach: bring-up, loading, the end; two losses at once; and what is
slow but not lost: a rank that stands still for less than the deadline, a pipe that nobody writes or reads for longer."""
import os
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import *  # noqa: E402,F403

HOST = socket.gethostname()
TEXT = ["generate", DEMO, "--prompt", "And it came to pass", "--ignore-eos"]


def ranks_of(mark):
    """{rank: pid} of the processes of the binary with `mark` in their command line; no zombies."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/exe") != os.path.realpath(BINARY):
                continue
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if mark.encode() not in file.read():
                    continue
            with open(f"/proc/{pid}/environ", "rb") as file:
                for word in file.read().split(b"\0"):
                    if word.startswith(b"OMPI_COMM_WORLD_RANK="):
                        found[int(word.split(b"=")[1])] = int(pid)
        except OSError:
            continue
    return found


class Phases(ShoalTest):
    def marked(self, *arguments):
        """Arguments with the path of a file of this test among them, which marks its processes."""
        return [*arguments, "--cache", self.path("cache")]

    def expect_all_gone(self):
        end = time.monotonic() + 5
        while ranks_of(self.folder) and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(ranks_of(self.folder), {})

    def lose(self, np, *more):
        run = shoal(*self.marked(*TEXT, "--max-tokens", 6, "--deadline", 2, *more), np=np, timeout=60)
        self.expect_all_gone()
        return run

    def test_while_loading(self):
        run = self.lose(3, "--fault", "rank=1,step=-1,layer=2,do=stop")
        self.expect(run, TRY_AGAIN, f"rank 1 ({HOST}) is lost: silent for 2.0 s", "before the first step", "last heard")
        self.assertNotIn(f"rank 2 ({HOST}) is lost", run.err)

    def test_killed_while_loading(self):
        run = self.lose(2, "--fault", "rank=1,step=-1,layer=2,do=kill")
        self.assertIn(run.code, (137, TRY_AGAIN, 143, 1), run)
        self.assertRegex(run.err, r"rank 1\b")

    def test_behind_the_last_step(self):
        """Six tokens take the steps 0 to 5; the word that serving ends is step 6. The text is complete, the status is not OK."""
        run = self.lose(2, "--fault", "rank=1,step=6,do=stop")
        self.expect(run, TRY_AGAIN, f"rank 1 ({HOST}) is lost", "waiting for a gather at step 6", "last heard")
        self.assertEqual(run.out, shoal(*TEXT, "--max-tokens", 6).out)

    def test_before_mpi_has_started(self):
        """A rank that never comes: its process stands still before it calls MPI_Init, where the others wait without a deadline."""
        script = self.write("rank", "#!/bin/sh\n[ $OMPI_COMM_WORLD_RANK = 1 ] && kill -STOP $$\n"
                            f"exec {BINARY} \"$@\"\n")
        os.chmod(script, 0o755)
        began = time.monotonic()
        process = subprocess.run(["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "2", script,
                                  *map(str, self.marked(*TEXT, "--deadline", 1))], capture_output=True, env=environment(), timeout=90)
        self.assertEqual(process.returncode, TRY_AGAIN, process.stderr)
        self.assertIn(b"MPI has not started: a rank of this job died or stands still", process.stderr)
        self.assertGreater(time.monotonic() - began, 10)
        self.expect_all_gone()

    def test_two_at_once(self):
        process = start(*self.marked(*TEXT, "--max-tokens", 900, "--deadline", 2), np=4)
        process.stdout.read(20)
        pids = ranks_of(self.folder)
        for rank in (1, 3):
            os.kill(pids[rank], signal.SIGSTOP)
        _, err = process.communicate(timeout=60)
        err = err.decode()
        self.assertEqual(process.returncode, TRY_AGAIN, err)
        self.assertRegex(err, rf"rank [13] \({HOST}\) is lost: silent for 2.0 s")
        self.assertNotRegex(err, rf"rank [02] \({HOST}\) is lost")
        self.expect_all_gone()

    def test_a_reader_that_leaves(self):
        """As `| head` does. Under mpirun it is mpirun that writes: it ends the ranks by a signal."""
        for np in (0, 2):
            process = start(*self.marked(*TEXT, "--max-tokens", 900), np=np)
            process.stdout.read(20)
            process.stdout.close()
            with process.stderr:
                err = process.stderr.read().decode()
            self.assertNotEqual(process.wait(timeout=60), OK, err)
            # mpirun takes a while to see it; the ranks may have said all by then
            self.assertRegex(err, "standard output: Broken pipe" if np == 0 else "stopped by signal|SIGPIPE detected")
            self.assertNotIn("Segmentation", err)
            self.expect_all_gone()


class SlowIsNotLost(ShoalTest):
    """Deadline 2 s; whatever is slow takes 4 s. All of it at the same time, because it is mostly waiting."""

    def slow_batch(self):
        """An input that comes line by line, and an output that is read late; both are pipes."""
        for name in ("in", "out"):
            os.mkfifo(self.path(name))
        process = start("batch", DEMO, "--input", self.path("in"), "--output", self.path("out"), "--deadline", 2, np=2)
        with open(self.path("out"), encoding="utf-8") as out, open(self.path("in"), "w", encoding="utf-8") as lines:
            print(json.dumps({"id": 0, "prompt": "a", "max_tokens": 3}), file=lines, flush=True)
            first = out.readline()  # answered although the next line is not there yet
            time.sleep(4)
            print(json.dumps({"id": 1, "prompt": "b", "max_tokens": 3}), file=lines, flush=True)
            lines.close()
            rest = out.readlines()
        _, err = process.communicate(timeout=60)
        self.results["batch"] = (process.returncode, [json.loads(line)["id"] for line in (first, *rest)], err.decode())

    def slow_reader(self):
        """Text into a pipe that is full for longer than the deadline; mpirun's own pipes would be read at once."""
        os.mkfifo(self.path("text"))
        pipe = os.open(self.path("text"), os.O_RDWR | os.O_NONBLOCK)
        n_junk = 0
        try:
            while True:
                n_junk += os.write(pipe, b"x" * 4096)
        except BlockingIOError:
            pass
        script = self.write("rank", f"#!/bin/sh\n[ $OMPI_COMM_WORLD_RANK = 0 ] && exec >{self.path('text')}\nexec {BINARY} \"$@\"\n")
        os.chmod(script, 0o755)
        process = subprocess.Popen(["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "2", script, *TEXT, "--max-tokens", "30",
                                    "--deadline", "2"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                   env=environment())
        time.sleep(5)
        found = b""
        while process.poll() is None or len(found) < n_junk:
            try:
                found += os.read(pipe, 65536)
            except BlockingIOError:
                time.sleep(0.02)
        try:
            found += os.read(pipe, 65536)
        except BlockingIOError:
            pass
        os.close(pipe)
        self.results["reader"] = (process.wait(), found[n_junk:].decode(), process.stderr.read().decode())
        process.stderr.close()

    def short_stop(self):
        process = start(*TEXT, "--max-tokens", 200, "--cache", self.path("cache"), "--deadline", 5, np=2)
        first = process.stdout.read(20)
        pid = ranks_of(self.path("cache"))[1]
        os.kill(pid, signal.SIGSTOP)
        time.sleep(2)
        os.kill(pid, signal.SIGCONT)
        rest, err = process.communicate(timeout=60)
        self.results["stop"] = (process.returncode, (first + rest).decode(), err.decode())

    def test_all(self):
        self.results = {}
        threads = [threading.Thread(target=body) for body in (self.slow_batch, self.slow_reader, self.short_stop)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.results["batch"][:2], (OK, [0, 1]), self.results["batch"][2])
        for name, n in (("reader", 30), ("stop", 200)):
            code, text, err = self.results[name]
            self.assertEqual((code, text), (OK, shoal(*TEXT, "--max-tokens", n).out), err)
            self.assertNotIn("is lost", err)


need_mpirun()
main()
