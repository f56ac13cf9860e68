#!/usr/bin/env python3
"""shoal probe: what it measures fits together, says how links run, and is read back. No speed is judged."""
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import hosts as network  # noqa: E402
from shoal_test import *  # noqa: E402,F403

FORMATS = ["F32", "F16", "BF16", "FP8", "MXFP4", "Q8", "Q4"]


class Probe(ShoalTest):
    def check_ranks(self, probe, n_rank):
        self.assertEqual([rank["rank"] for rank in probe["ranks"]], list(range(n_rank)))
        for rank in probe["ranks"]:
            for key in ("memory_bytes", "read_gb_per_s", "f32_gflop_per_s", "job_us", "threads", "cores"):
                self.assertGreater(rank[key], 0, key)
            self.assertEqual(len(rank["formats"]), len(FORMATS))
            for name, rates in rank["formats"].items():
                self.assertGreater(rates["decode_gb_per_s"], 0, name)
                self.assertGreater(rates["prefill_gop_per_s"], 0, name)
        for host in probe["hosts"]:
            self.assertGreaterEqual(host["cores"], 1)
            self.assertLessEqual(host["free_bytes"], host["memory_bytes"])

    def check_links(self, probe, n_rank):
        pairs = [(link["from"], link["to"]) for link in probe["links"]]
        self.assertEqual(pairs, [(a, b) for a in range(n_rank) for b in range(n_rank) if a != b])
        for link in probe["links"]:
            for key in ("latency_us", "gb_per_s"):
                self.assertGreater(link[key], 0, link)
            self.assertGreaterEqual(link["overhead_us"], 0)
            self.assertTrue(link["measured"])

    def test_alone(self):
        path = self.path("F")
        run = self.expect(shoal("probe", "--output", path), OK)
        self.assertRegex(run.out, r"(?m)^shoal \S+ \(\w+\): 1 rank on 1 host,")
        self.assertRegex(run.out, r"(?m)^rank +host +threads")
        self.assertNotIn("links", run.out)
        self.assertGreater(os.path.getsize(path), 100)
        self.assertEqual(os.listdir(os.path.dirname(path)), ["F"])

    def test_two_ranks(self):
        run = self.expect(shoal("probe", "--json", "--output", "/no/such/folder/F", np=2), FAILED, "/no/such/folder/F")
        probe = run.json  # the figures are out, whatever becomes of the file
        self.check_ranks(probe, 2)
        self.check_links(probe, 2)
        self.assertEqual(len(probe["hosts"]), 1)
        self.assertEqual(probe["hosts"][0]["nic_gb_per_s"], 0)
        for link in probe["links"]:
            self.assertEqual((link["transport"], link["interface"]), ("shared memory", ""))
        self.assertEqual(probe["pairs_measured"], 1)

    def test_hosts(self):
        reason = network.missing_privilege()
        if reason:
            self.skipTest(reason)
        with network.Hosts(2) as hosts:
            hosts.limit(0, "400mbit")
            out = hosts.mpirun([BINARY, "probe", "--json"], ranks_per_host=2)
        self.assertEqual(out.returncode, 0, out.stderr)
        probe = json.loads(out.stdout)
        self.check_ranks(probe, 4)
        self.check_links(probe, 4)
        self.assertEqual([host["name"] for host in probe["hosts"]], ["fish1", "fish2"])
        self.assertEqual([host["address"] for host in probe["hosts"]], ["10.77.0.1", "10.77.0.2"])
        self.assertEqual([rank["host"] for rank in probe["ranks"]], ["fish1", "fish1", "fish2", "fish2"])
        for link in probe["links"]:
            same = link["from"] // 2 == link["to"] // 2
            self.assertEqual(link["transport"], "tcp")
            self.assertEqual(link["interface"], "lo" if same else "eth0", link)
        # what tc lets through is a limit, not a speed of this machine
        for link in probe["links"]:
            if link["from"] < 2 <= link["to"]:
                self.assertLess(link["gb_per_s"], 0.06, link)
        self.assertLess(probe["hosts"][0]["nic_gb_per_s"], 0.06)
        self.assertGreater(probe["hosts"][1]["nic_gb_per_s"], 0)
        for host in probe["hosts"]:
            self.assertLess(abs(host["clock_offset_s"]), 0.1 + host["clock_error_s"])
        kinds = [warning["kind"] for warning in probe["warnings"]]
        self.assertIn("loop_link", kinds)
        self.assertNotIn("virtual_link", kinds)  # there is nothing else on these hosts

    def test_a_rank_that_stands_still_is_named(self):
        process = start("probe", "--deadline", 2, np=2)
        try:
            time.sleep(1.5)
            ranks = subprocess.run(["pgrep", "-P", str(process.pid)], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
            os.kill(int(ranks[1]), signal.SIGSTOP)
            out, err = process.communicate(timeout=60)
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.assertNotEqual(process.returncode, 0)
        self.assertRegex(err.decode(), r"rank [01] .* is lost")
        self.assertEqual(out, b"")

    def test_usage(self):
        self.expect(shoal("probe", DEMO), USAGE, "takes options only")
        self.expect(shoal("probe", "--placement", "uniform"), USAGE, "unknown option")
        self.assertIn("usage: shoal probe [options]", self.expect(shoal("probe", "--help"), OK).out)


main()
