#!/usr/bin/env python3
"""Bring-up: ranks that do not fit together, and failures of single ranks, are named once; all leave with the right status."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import *  # noqa: E402,F403


HELLO = ["--prompt-ids", "5,6", "--max-tokens", 3]


class BringUp(ShoalTest):
    def test_another_checkpoint(self):
        config = read_json(os.path.join(DEMO, "config.json"))
        config["rope_theta"] = 20000.0
        shutil.copytree(DEMO, self.path("other"))
        self.write("other/config.json", json.dumps(config))
        command = ["mpirun", "--oversubscribe", "--bind-to", "none"]
        for rank, model in enumerate((DEMO, DEMO, self.path("other"))):
            command += ([":"] if rank else []) + ["-np", "1", BINARY, "generate", model, *map(str, HELLO)]
        process = subprocess.run(command, capture_output=True, env=environment(), timeout=60)
        err = process.stderr.decode()
        self.assertEqual(process.returncode, BAD_DATA, err)
        self.assertIn("rank 2", err)
        self.assertIn("has another checkpoint", err)
        self.assertEqual(process.stdout, b"")
        self.assertNotIn("loaded", err)  # nothing started

    def test_other_options(self):
        for own, says in ((["--math", "f32"], "--math"), (["--context", "64"], "--context 64"),
                          (["--combine", "reduced"], "--combine"), (["--weights", "q4"], "--weights"), (["--prefill-chunk", "3"], "--prefill-chunk 3")):
            run = shoal("generate", DEMO, *HELLO, np=[[], own])
            self.expect(run, USAGE, "rank 1", "has other options", says)
            self.assertEqual(len(run.errors()), 1, run)
            self.assertNotIn("loaded", run.err)

    def test_opt_in_kernels_are_for_all_ranks(self):
        opt_in = ["--kernels", "avx512-bf16"]
        alone = shoal("generate", DEMO, *HELLO, *opt_in)
        if alone.code == UNAVAILABLE:
            self.skipTest("this CPU lacks avx512-bf16")
        self.expect(alone, OK)
        for own in ([[], opt_in], [opt_in, ["--kernels", "avx512"]]):
            run = self.expect(shoal("generate", DEMO, *HELLO, np=own), USAGE, "rank 1", "--kernels differs from rank 0's")
            self.assertEqual(len(run.errors()), 1, run)
            self.assertNotIn("loaded", run.err)
        for own in ([opt_in, opt_in + ["--threads", "2"]], [opt_in + ["--prefill-chunk", "1"]] * 3):
            run = self.expect(shoal("generate", DEMO, *HELLO, np=own), OK)
            self.assertEqual(run.out, alone.out)

    def test_what_need_not_agree(self):
        alone = self.expect(shoal("generate", DEMO, *HELLO), OK)
        run = self.expect(shoal("generate", DEMO, *HELLO, np=[["--kernels", "reference"], ["--threads", "3"]]), OK)
        self.assertEqual(run.out, alone.out)

    def test_a_failure_of_all_is_said_once(self):
        run = self.expect(shoal("generate", self.path("nowhere"), *HELLO, np=3), NO_INPUT)
        self.assertEqual(len(run.errors()), 1, run)

    def test_a_failure_of_rank_0_is_everyones(self):
        run = self.expect(shoal("generate", DEMO, "--prompt-file", self.path("nowhere"), np=2), NO_INPUT)
        self.assertEqual(len(run.errors()), 1, run)

    def test_a_failure_of_one_rank_is_named(self):
        run = self.expect(shoal("generate", DEMO, *HELLO, np=[[], ["--placement", self.path("nowhere")]]), NO_INPUT, "rank 1")
        self.assertEqual(len(run.errors()), 1, run)

    def test_damaged_weights_are_found_before_loading(self):
        model = self.path("model")
        shutil.copytree(golden("qwen3_moe"), model)
        with open(os.path.join(model, "model.safetensors"), "r+b") as file:
            file.truncate(os.path.getsize(file.name) - 100)
        run = self.expect(shoal("generate", model, *HELLO, np=2), BAD_DATA, "model.safetensors")
        self.assertEqual(len(run.errors()), 1, run)

    def test_placements(self):
        """Expert-only ranks and unequal shares give the same text."""
        alone = self.expect(shoal("generate", DEMO, *HELLO), OK)
        for name, ranks in (("only", "[{experts: 1, sequences: 0}, {experts: 1, sequences: 1}]"),
                            ("all", "[{experts: 0, sequences: 1}, {experts: 1, sequences: 0}]"),
                            ("unequal", "[{experts: 3, sequences: 1}, {experts: 1, sequences: 1}]")):
            file = self.write(name, f"ranks: {ranks}\n")
            run = self.expect(shoal("generate", DEMO, *HELLO, "--placement", file, np=2), OK)
            self.assertEqual(run.out, alone.out)
        self.expect(shoal("generate", DEMO, *HELLO, "--placement", file, np=3), BAD_DATA)

    def test_transport_self_ignores_the_launcher(self):
        run = self.expect(shoal("generate", DEMO, *HELLO, "--transport", "self", np=1), OK, "1 rank")
        self.assertEqual(run.out, self.expect(shoal("generate", DEMO, *HELLO), OK).out)

    def test_a_lost_rank(self):
        for rank, kind in ((1, "drop"), (2, "kill")):
            run = shoal("generate", DEMO, *HELLO, "--max-tokens", 50, "--ignore-eos", "--deadline", 2, "--fault",
                        f"rank={rank},step=4,layer=2,do={kind}", np=3)
            if kind == "drop":
                self.expect(run, TRY_AGAIN, f"rank {rank} (", "is lost")
            else:  # mpirun ends the others first
                self.assertIn(run.code, (TRY_AGAIN, 137, 143, 1), run)
                self.assertRegex(run.err, rf"rank {rank}\b|\],{rank}\]|,1\],{rank}")


need_mpirun()
main()
