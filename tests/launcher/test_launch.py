#!/usr/bin/env python3
"""shoal launch with a stand-in for mpirun and sbatch: what is passed on, forwarded, understood, ended and started again."""
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import BINARY, ShoalTest, environment, main, shoal, start  # noqa: E402

LOST = ("[0 fish1] error: rank 1 (fish2) is lost: silent for 3.0 s, waiting for combine rows at step 5, layer 3; last heard 3.0 s ago. "
        "See what became of that machine or its network, then start again")
KILLED = "mpirun noticed that process rank 1 with PID 0 on node fish2 exited on signal 9 (Killed)."
CLUSTER = """
name: two
network: { gbit_per_s: 1, latency_us: 50 }
hosts:
  - { name: fish1, cores: 2, memory_gb: 8, memory_bandwidth_gb_per_s: 20, cpu: avx2 }
  - { name: fish2, cores: 2, memory_gb: 8, memory_bandwidth_gb_per_s: 20, cpu: avx2 }
launch:
  rsh_agent: AGENT
"""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Launch(ShoalTest):
    def setUp(self):
        super().setUp()
        os.mkdir(self.path("bin"))
        self.env = environment(PATH=f"{self.path('bin')}:{os.environ['PATH']}", WORK=self.folder)
        self.tool("agent", "exec true")
        self.cluster = self.write("cluster.yaml", CLUSTER.replace("AGENT", self.path("bin/agent")))

    def tool(self, name, text):
        path = self.write(f"bin/{name}", f"#!/bin/sh\n{text}\n")
        os.chmod(path, 0o755)

    def launch(self, *options, program=("batch", "m", "--input", "i", "--output", "o"), **more):
        return shoal("launch", "--cluster", self.cluster, *options, "--", *program, env=self.env, timeout=60, **more)

    def test_bad_usage(self):
        self.expect(shoal("launch", "--", "batch", "m"), 2, "--cluster F is missing")
        self.expect(shoal("launch", "--cluster", self.cluster), 2, "nothing to run", "-- COMMAND MODEL")
        self.expect(shoal("launch", "--cluster", self.cluster, "batch", "m"), 2, "goes behind --")
        self.expect(shoal("launch", "--cluster", self.path("none"), "--", "batch", "m"), 66, "none")
        self.expect(self.launch("--ranks", 3), 2, "--ranks 3, but the cluster file has 2")
        self.expect(self.launch("--restarts", 1, program=["generate", "m"]), 2, "use batch")
        self.expect(self.launch(program=["launch", "x"]), 2, "wanted a command of shoal")
        self.env["OMPI_COMM_WORLD_RANK"] = "0"
        self.expect(self.launch(), 2, "cannot be started by it")

    def test_prints_a_line(self):
        run = self.launch("--print", program=["generate", "m", "--prompt", "it's"])
        self.expect(run, 0)
        self.assertTrue(run.out.startswith("mpirun "), run)
        self.assertIn(" --host fish1:1,fish2:1 -np 2 ", run.out)
        self.assertTrue(run.out.endswith(f"{os.path.realpath(BINARY)} generate m --prompt 'it'\\''s' --device cpu\n"), run)
        self.assertIn(" --host fish1:1 -np 1 ", self.launch("--print", "--ranks", 1).out)

    def test_output_is_untouched(self):
        self.tool("mpirun", r"printf 'a\000b\377\n\ntail'; printf 'one\r\001\n[9' >&2; exit 0")
        process = subprocess.run([BINARY, "launch", "--cluster", self.cluster, "--", "batch", "m"], env=self.env,
                                 stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
        self.assertEqual((process.returncode, process.stdout, process.stderr), (0, b"a\0b\377\n\ntail", b"one\r\1\n[9"))

    def test_statuses(self):
        cases = [(f"echo '{LOST}' >&2; exit 1", 75, "rank 1 (fish2) was lost", "--resume"),
                 (f"echo '{KILLED}' >&2; exit 137", 75, "rank 1 (fish2) was lost", "killed by signal 9"),
                 ("exit 143", 75, "a rank was killed", "--restarts N"),
                 ("kill -KILL $$", 75, "mpirun itself was ended by signal 9"),
                 ("exit 7", 1, "mpirun ended with status 7 before a rank said why"),
                 ("echo 'ORTE was unable to reliably start one or more daemons.' >&2; exit 1", 69, "could not start on every host")]
        for script, code, *said in cases:
            self.tool("mpirun", script)
            self.expect(self.launch(), code, *said)
        self.tool("mpirun", "echo '[0 fish1] error: 3 bad lines in i' >&2; exit 65")
        self.assertEqual(self.launch().err, "[0 fish1] error: 3 bad lines in i\n")

    def test_starts_again_without_what_is_lost(self):
        self.tool("agent", '[ "$1" = fish1 ]')
        self.tool("mpirun", f"""echo run >>"$WORK/runs"; echo "$@" >"$WORK/line"
[ "$(wc -l <"$WORK/runs")" -ge 3 ] || {{ echo '{LOST}' >&2; exit 75; }}
echo done""")
        program = ["batch", "m", "--input", "i", "--output", "o", "--placement", "p.yaml", "--fault", "rank=1,step=2,do=kill"]
        run = self.launch("--restarts", 1, program=program)
        self.expect(run, 75, "fish2 takes no part any more: it does not answer", "starting again on 1 rank of 1 host (restart 1 of 1)",
                    "--placement or --probe was for all hosts", "no restarts are left")
        os.remove(self.path("runs"))
        run = self.launch("--restarts", 5, program=program)
        self.expect(run, 0, "launch: done after 2 restarts")
        self.assertEqual(run.out, "done\n")
        with open(self.path("line"), encoding="utf-8") as line:
            text = line.read()
        self.assertIn("--host fish1:1 -np 1 ", text)
        self.assertTrue(text.endswith("batch m --input i --output o --resume --placement weighted --device cpu\n"), text)

    def test_a_host_that_loses_twice_is_dropped(self):
        self.tool("mpirun", f"""echo "$@" >>"$WORK/lines"; echo '{KILLED}' >&2; exit 137""")
        self.expect(self.launch("--restarts", 2), 75, "fish2 takes no part any more: it answers, but has lost a rank before")
        with open(self.path("lines"), encoding="utf-8") as lines:
            hosts = [line.split("--host ")[1].split()[0] for line in lines]
        self.assertEqual(hosts, ["fish1:1,fish2:1", "fish1:1,fish2:1", "fish1:1"])

    def test_a_failure_is_not_tried_again(self):
        self.tool("mpirun", """echo run >>"$WORK/runs"; echo '[1 fish2] error: out of memory' >&2; exit 1""")
        self.expect(self.launch("--restarts", 5), 1)
        with open(self.path("runs"), encoding="utf-8") as runs:
            self.assertEqual(runs.read(), "run\n")

    def test_nobody_left(self):
        self.tool("agent", "exit 255")
        self.tool("mpirun", f"echo '{LOST}' >&2; exit 75")
        self.expect(self.launch("--restarts", 5), 69, "no host is left")

    def test_stuck_mpirun_is_ended(self):
        # its child has a process group of its own, as ranks have
        self.tool("mpirun", f"""trap '' TERM INT
setsid sh -c 'trap "" TERM; echo $$ >"$WORK/child"; sleep 300; sleep 300' &
echo $$ >"$WORK/mpirun"
echo '{LOST}' >&2
while :; do sleep 1; done""")
        run = self.launch()
        self.expect(run, 75, "mpirun still runs 10 s after the loss; its process group is ended", "rank 1 (fish2) was lost")
        for name in ("mpirun", "child"):
            with open(self.path(name), encoding="ascii") as pid:
                self.assertFalse(alive(int(pid.read())), f"{name} is left")

    def test_signals_are_passed_on(self):
        for number, text in ((signal.SIGUSR1, "USR1"), (signal.SIGTERM, "TERM"), (signal.SIGINT, "INT")):
            self.tool("mpirun", f"""trap 'echo got {text}; exit 75' {text}
echo ready >"$WORK/ready"
while :; do sleep 0.1; done""")
            process = start("launch", "--cluster", self.cluster, "--restarts", 3, "--", "batch", "m", env=self.env)
            end = time.monotonic() + 30
            while not os.path.exists(self.path("ready")) and time.monotonic() < end:
                time.sleep(0.02)
            process.send_signal(number)
            out, err = process.communicate(timeout=30)
            self.assertEqual((process.returncode, out), (75, f"got {text}\n".encode()), err)
            self.assertIn(f"stopped by signal {int(number)} ".encode(), err)
            os.remove(self.path("ready"))

    def test_without_mpirun_or_sbatch(self):
        self.env["PATH"] = self.path("bin")
        self.expect(self.launch(), 69, "mpirun could not be started")
        self.expect(self.launch("--slurm"), 69, "sbatch could not be started")

    def test_hands_a_script_to_sbatch(self):
        self.tool("sbatch", 'cat >"$WORK/script"; echo Submitted batch job 12')
        run = self.launch("--slurm", "--restarts", 3)
        self.expect(run, 0)
        self.assertEqual(run.out, "Submitted batch job 12\n")
        printed = self.launch("--slurm", "--restarts", 3, "--print").out
        with open(self.path("script"), encoding="utf-8") as script:
            self.assertEqual(script.read(), printed)
        self.assertIn("\nrestarts=3\n", printed)
        self.assertEqual(subprocess.run(["bash", "-n"], input=printed, text=True, timeout=30, check=False).returncode, 0)
        self.tool("sbatch", "echo no >&2; exit 1")
        self.expect(self.launch("--slurm"), 1, "no\n", "sbatch refused the job")


main()
