#!/usr/bin/env python3
"""shoal launch over hosts (network namespaces): a job of unequal hosts, and a batch that loses one and goes on without it."""
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import hosts as network  # noqa: E402
from shoal_test import BINARY, DEMO, ShoalTest, environment, main, read_lines, shoal, skip, write_lines  # noqa: E402

TEXT = ["generate", DEMO, "--prompt", "And it came to pass, when", "--max-tokens", "12"]


class Launch(ShoalTest):
    def cluster(self, hosts, ranks):
        """A cluster file for these hosts with so many ranks each."""
        text = f"name: test\nnetwork: {{ gbit_per_s: 10, latency_us: 50 }}\nlaunch:\n  interface: {hosts.SUBNET}\n" \
               f"  rsh_agent: {hosts.agent}\nhosts:\n"
        for name, n in zip(hosts.names, ranks):
            text += f"  - {{ name: {name}, cores: 2, memory_gb: 8, memory_bandwidth_gb_per_s: 20, cpu: avx2, ranks: [{', '.join(['cpu'] * n)}] }}\n"
        return self.write("cluster.yaml", text)

    def start(self, hosts, *arguments):
        """On the first host."""
        command = [hosts.agent, hosts.names[0]] + [network._quote(str(word)) for word in arguments]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=environment(TMPDIR=hosts.folder), start_new_session=True)

    def end(self, hosts, process, timeout=60):
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            hosts.kill_all()
            out, err = process.communicate(timeout=10)
            self.fail(f"did not end in {timeout} s\n{out}\n{err}")
        return process.returncode, out, err

    def answers(self, name):
        lines = read_lines(self.path(name))
        self.assertEqual(len({line["id"] for line in lines}), len(lines), "an id twice")
        for line in lines:
            line.pop("timing", None)
        return sorted(lines, key=lambda line: line["id"])

    def test_unequal_hosts_and_the_printed_line(self):
        want = shoal(*TEXT).out
        with network.Hosts(2) as hosts:
            cluster = self.cluster(hosts, [2, 1])
            code, out, err = self.end(hosts, self.start(hosts, BINARY, "launch", "--cluster", cluster, "--", *TEXT))
            self.assertEqual((code, out), (0, want), err)
            self.assertIn("memory of rank 2 (fish2)", err)
            self.assertIn("memory of rank 1 (fish1)", err)
            code, line, err = self.end(hosts, self.start(hosts, BINARY, "launch", "--cluster", cluster, "--print", "--", *TEXT))
            self.assertEqual(code, 0, err)
            code, out, err = self.end(hosts, self.start(hosts, "sh", "-c", line))
            self.assertEqual((code, out), (0, want), err)
            code, out, err = self.end(hosts, self.start(hosts, BINARY, "launch", "--cluster", cluster, "--", "generate", DEMO, "--promt", "x"))
            self.assertEqual(code, 2, err)
            self.assertIn("did you mean --prompt", err)

    def lose(self, strike, said):
        """A batch over three hosts that loses one ends as one rank ends it, and is not left running anywhere."""
        write_lines(self.path("in.jsonl"), [{"id": f"q{i:02d}", "prompt": f"In the beginning {i}", "max_tokens": 40, "ignore_eos": True}
                                            for i in range(24)])
        batch = ["batch", DEMO, "--input", self.path("in.jsonl"), "--output"]
        self.expect(shoal(*batch, self.path("want.jsonl")), 0)
        with network.Hosts(3) as hosts:
            out = self.path("out.jsonl")
            process = self.start(hosts, BINARY, "launch", "--cluster", self.cluster(hosts, [1, 1, 1]), "--restarts", 3, "--",
                                 *batch, out, "--deadline", 3, "--sequences", 6)
            end = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < end and not (os.path.exists(out) and os.path.getsize(out) > 0):
                time.sleep(0.01)
            strike(hosts)
            code, _, err = self.end(hosts, process)
            self.assertEqual(code, 0, err)
            self.assertIn("launch: done after ", err)
            for text in said:
                self.assertIn(text, err)
            self.assertEqual(self.answers("out.jsonl"), self.answers("want.jsonl"))

    def test_a_host_that_is_cut_off(self):
        self.lose(lambda hosts: hosts.link_down(2), ["fish3 takes no part any more: it does not answer", "starting again on 2 ranks of 2 hosts"])

    def test_a_rank_that_is_killed(self):
        def kill(hosts):
            for pid in subprocess.run(["ip", "netns", "pids", hosts.namespace(1)], capture_output=True, text=True, check=False).stdout.split():
                if os.path.realpath(f"/proc/{pid}/exe") == os.path.realpath(BINARY):
                    os.kill(int(pid), signal.SIGKILL)
        self.lose(kill, ["rank 1 (", "starting again on 3 ranks of 3 hosts"])


REASON = network.missing_privilege()
if REASON:
    skip(REASON)
main()
