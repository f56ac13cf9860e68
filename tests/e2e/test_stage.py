#!/usr/bin/env python3
"""shoal stage: each node has its own weights and nothing else, starts from them without MODEL, and computes the same; what was
interrupted goes on; what is damaged, full, of another model or has changed meanwhile is said and never used.

Nodes are the ranks of a host with one DIR, so ranks of this host with a DIR each are nodes, too."""
import glob
import os
import shutil
import signal
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import hosts as network  # noqa: E402
from shoal_test import (BAD_DATA, BINARY, DEMO, FAILED, NO_INPUT, OK, SOURCE, USAGE, ShoalTest, environment, golden,  # noqa: E402
                        main, mpi_command, need_mpirun, read_json, read_safetensors, shoal, start)

IDS = "5,6,7,8,9,10,11,12"
NOWHERE = "/no/such/model"


def units(path):
    """The units that a pack file has: {number: bytes}."""
    with open(path, "rb") as file:
        data = file.read()
    n_unit, _, slot_bytes = struct.unpack_from("<III", data, 28)
    found = {}
    for u in range(n_unit):
        _, n_part, _, n_bytes = struct.unpack_from("<IIQQ", data, 64 + u * slot_bytes)
        if n_part > 0:
            found[u] = n_bytes
    return found


class Stage(ShoalTest):
    def dirs(self, n):
        return [self.path(f"node{i}") for i in range(n)]

    def stage(self, dirs, *options, model=DEMO, elsewhere=NOWHERE, last=()):
        """A rank for each entry of dirs; those behind the first have `elsewhere` as MODEL. last: options of the last rank."""
        command = ["mpirun", "--oversubscribe", "--bind-to", "none"]
        for rank, folder in enumerate(dirs):
            own = [model if rank == 0 else elsewhere, "--to", folder, *options, *(last if rank == len(dirs) - 1 else ())]
            command += ([":"] if rank > 0 else []) + ["-np", "1", BINARY, "stage", *map(str, own)]
        run = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=100, check=False)
        run.code, run.err = run.returncode, run.stderr
        return run

    def logits(self, models, *options):
        """The bytes of logits over a rank for each MODEL."""
        out = self.path("out.safetensors")
        own = [[model, "--ids", IDS, "--output", out, *options] for model in models]
        run = shoal("logits", np=own) if len(own) > 1 else shoal("logits", *own[0])
        self.expect(run, OK)
        return read_safetensors(out)

    def experts(self, folder):
        """{(layer, expert)} of a node."""
        found = set()
        for path in glob.glob(os.path.join(folder, "*", "layer-*-experts.pack")):
            layer = int(os.path.basename(path)[6:11])
            found |= {(layer, u) for u in units(path)}
        return found

    def test_own_bytes_only(self):
        """Three ranks on two nodes, MODEL on the first only, each node's experts apart; the same text from what was staged."""
        a, b = self.dirs(2)
        run = self.expect(self.stage([a, b, b], "--weights", "q4", "--verify"), OK, "rank 0 reads MODEL and sends",
                          "(ranks 1 to 2)", "all checksums compared")
        self.assertIn(f"shoal generate {a} --weights q4", run.err)
        mine, others = self.experts(a), self.experts(b)
        self.assertEqual((len(mine | others), mine & others), (5 * 16, set()))
        self.assertLess(len(mine), len(others))
        self.assertEqual({os.path.basename(p) for p in glob.glob(os.path.join(a, "*.*"))},
                         {"config.json", "generation_config.json", "staged.headers", "staged.json", "tokenizer.json",
                          "tokenizer_config.json"})
        wanted = self.logits([DEMO], "--weights", "q4")
        self.assertTrue(self.logits([a, b, b], "--weights", "q4") == wanted, "other bytes")
        text = ["--prompt", "The sea", "--max-tokens", "8", "--weights", "q4", "--json"]
        # MODEL where it is, and where it was staged to where it is not
        shutil.copytree(DEMO, self.path("demo"), copy_function=shutil.copy2)
        self.expect(self.stage(self.dirs(2), "--weights", "q4", model=self.path("demo"), elsewhere=self.path("demo/")), OK)
        os.rename(self.path("demo"), self.path("gone"))
        command = mpi_command([["--cache", a], ["--cache", b]], "generate", self.path("demo"), *text)
        gone = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=100, check=False)
        self.assertEqual(gone.returncode, 0, gone.stderr)
        self.assertEqual(gone.stdout.split('"text":')[1].split(",")[0], shoal("generate", DEMO, *text).out.split('"text":')[1]
                         .split(",")[0])

    def test_same_files_as_a_start(self):
        """What stage writes is what a start with --cache writes, to the byte: families, formats, GGUF."""
        for model, options in ((golden("deepseek_v3-mtp"), ("--draft", "mtp")), (golden("gpt_oss-mxfp4"), ()),
                               (golden("qwen3_moe-sharded"), ("--weights", "q8"))):
            with self.subTest(model=os.path.basename(model)):
                to, cache = self.path("to"), self.path("cache")
                self.expect(shoal("stage", model, "--to", to, *options), OK, "rank 0 reads MODEL")
                self.expect(shoal("generate", model, "--prompt-ids", "5,6", "--max-tokens", 2, "--cache", cache, *options), OK)
                kept = sorted(glob.glob(os.path.join(cache, "*", "*.pack")))
                self.assertGreater(len(kept), 2)
                for path in kept:
                    with open(path, "rb") as one, open(path.replace(cache, to), "rb") as other:
                        self.assertTrue(one.read() == other.read(), path)
                run = self.expect(shoal("generate", to, "--prompt-ids", "5,6", "--max-tokens", 2, "--json", *options), OK)
                self.assertEqual(run.json["ranks"][0]["weight_bytes_read"], 0)
                shutil.rmtree(to)
                shutil.rmtree(cache)

    def test_goes_on_after_an_interruption(self):
        a, b = self.dirs(2)
        fault = ("--fault", "rank=1,step=24,layer=3,do=kill")
        run = self.stage([a, b], "--deadline", "5", last=fault)
        self.assertNotEqual(run.code, 0, run.err)
        self.assertIn("injected fault", run.err)
        kept = self.experts(b)
        self.assertTrue(0 < len(kept) < 40, kept)
        self.expect(shoal("generate", b, "--prompt-ids", IDS), NO_INPUT, "which has not finished")
        run = self.expect(self.stage([a, b], "--verify"), OK)
        self.assertNotIn("rank 1): wants 47 units, 7.74 MB; 0 B are there", run.err)
        self.assertTrue(kept < self.experts(b))
        self.assertTrue(self.logits([a, b]) == self.logits([DEMO]), "other bytes")
        # all there: nothing is sent; another placement: only what is missing comes
        self.expect(self.stage([a, b]), OK, "staged: 0 B in ")
        placement = self.write("p.yaml", "ranks:\n  - { experts: 1, sequences: 1 }\n  - { experts: 3, sequences: 0 }\n")
        before = self.experts(b)
        run = self.expect(self.stage([a, b], "--placement", placement), OK, "rank 0): wants", "nothing is to come")
        self.assertEqual(len(self.experts(b)), 5 * 12)
        self.assertTrue(before < self.experts(b))
        self.assertTrue(self.logits([a, b], "--placement", placement) == self.logits([DEMO]), "other bytes")

    def test_expert_only_node_has_no_attention(self):
        a, b = self.dirs(2)
        placement = self.write("p.yaml", "ranks:\n  - { experts: 0, sequences: 1 }\n  - { experts: 1, sequences: 0 }\n")
        self.expect(self.stage([a, b], "--placement", placement), OK)
        names = [{os.path.basename(p)[-12:] for p in glob.glob(os.path.join(d, "*", "*.pack"))} for d in (a, b)]
        self.assertFalse(any("experts" in name for name in names[0]), names)
        self.assertTrue(all("experts" in name for name in names[1]), names)
        self.assertTrue(self.logits([a, b], "--placement", placement) == self.logits([DEMO]), "other bytes")

    def test_every_node_reads_a_shared_model(self):
        a, b = self.dirs(2)
        self.expect(self.stage([a, b], elsewhere=DEMO), OK, "each node reads MODEL itself")
        self.assertTrue(self.logits([a, b]) == self.logits([DEMO]), "other bytes")
        # a copy of another age is not the same; --source send does not look
        copy = self.path("copy")
        shutil.copytree(DEMO, copy)
        os.utime(os.path.join(copy, "model.safetensors"), ns=(0, 1))
        self.expect(self.stage([a, b], "--source", "shared", elsewhere=copy), NO_INPUT, "rank 1 (", "modification times")
        # what was staged at different times of a model is not mixed
        self.expect(shoal("stage", copy, "--to", self.path("later")), OK)
        run = shoal("logits", np=[[m, "--ids", IDS, "--output", self.path("out")] for m in (a, self.path("later"))])
        self.expect(run, BAD_DATA, "rank 1 (", "run shoal stage again")

    def test_damage_is_found(self):
        folder = self.path("to")
        model = golden("qwen3_moe")
        self.expect(shoal("stage", model, "--to", folder), OK)
        path = sorted(glob.glob(os.path.join(folder, "*", "layer-*-experts.pack")))[0]
        with open(path, "r+b") as file:
            file.seek(-300, os.SEEK_END)
            byte = file.read(1)
            file.seek(-300, os.SEEK_END)
            file.write(bytes([byte[0] ^ 1]))
        self.expect(shoal("stage", model, "--to", folder), OK, "staged: 0 B")
        self.expect(shoal("stage", model, "--to", folder, "--verify"), BAD_DATA, os.path.basename(path), "have checksum ", "remove the file")
        os.unlink(path)
        self.expect(shoal("stage", model, "--to", folder, "--verify"), OK)
        # the description
        headers = os.path.join(folder, "staged.headers")
        os.truncate(headers, 100)
        self.expect(shoal("inspect", folder), BAD_DATA, "staged.headers", "run shoal stage again")
        self.expect(shoal("stage", model, "--to", folder), OK)
        self.expect(shoal("inspect", folder), OK)

    def test_weights_that_are_not_there(self):
        folder = self.path("to")
        self.expect(shoal("stage", golden("qwen3_moe"), "--to", folder, "--weights", "q8"), OK)
        self.expect(shoal("generate", folder, "--prompt-ids", IDS), NO_INPUT, "not with --weights native; it has --weights q8")
        path = sorted(glob.glob(os.path.join(folder, "*", "layer-*-experts.pack")))[0]
        os.unlink(path)
        self.expect(shoal("generate", folder, "--prompt-ids", IDS, "--weights", "q8"), NO_INPUT, "mlp.experts.0.", "run shoal stage ")

    def test_another_state_of_the_model(self):
        model, folder = self.path("model"), self.path("to")
        shutil.copytree(golden("qwen3_moe"), model)
        self.expect(shoal("stage", model, "--to", folder), OK)
        os.utime(os.path.join(model, "model.safetensors"), ns=(0, 1))
        run = self.expect(shoal("stage", model, "--to", folder), OK, "is stale: ")
        self.assertNotIn("staged: 0 B", run.err)
        self.assertEqual(read_json(os.path.join(folder, "staged.json"))["weights"][0]["modified_ns"], 1)

    def test_source_changes_meanwhile(self):
        """A file that is cut while stage reads it, one that is written to, one that has gone: said, and what came of it is not used,
        nor what was complete before."""
        model, folder = self.path("model"), self.path("to")
        weights = os.path.join(model, "model.safetensors")
        for complete, change, code, said in (
                (False, lambda: os.truncate(weights, 100000), BAD_DATA, "the file shrank"),
                (True, lambda: os.utime(weights, ns=(0, 7)), BAD_DATA, "has changed since it was opened"),
                (False, lambda: os.unlink(weights), NO_INPUT, "has gone meanwhile")):
            with self.subTest(said=said):
                shutil.copytree(golden("qwen3_moe"), model)
                fault = "rank=0,step=3,layer=0,do=stop"
                if complete:
                    self.expect(shoal("stage", model, "--to", folder), OK)
                    last = sorted(glob.glob(os.path.join(folder, "*", "layer-*-experts.pack")))[-1]
                    os.unlink(last)
                    fault = f"rank=0,step=0,layer={int(os.path.basename(last)[6:11])},do=stop"
                job = start("stage", model, "--to", folder, "--fault", fault)
                os.waitid(os.P_PID, job.pid, os.WSTOPPED)
                change()
                os.kill(job.pid, signal.SIGCONT)
                err = job.communicate(timeout=60)[1].decode()
                self.assertEqual(job.returncode, code, err)
                self.assertIn(said, err)
                self.expect(shoal("generate", folder, "--prompt-ids", IDS), NO_INPUT, "which has not finished")
                shutil.rmtree(model)
                shutil.rmtree(folder)

    def test_gguf(self):
        model, folder = self.path("model.gguf"), self.path("to")
        convert = os.path.join(SOURCE, "tests", "checkpoint", "gguf", "convert.py")
        subprocess.run([sys.executable, convert, golden("qwen3_moe"), self.path("part"), "split=3"], check=True)
        model = self.path("part-00001-of-00003.gguf")
        self.expect(shoal("stage", model, "--to", folder), OK)
        wanted = self.logits([model])
        for part in glob.glob(self.path("part-*")):
            os.rename(part, part + ".gone")
        self.assertTrue(self.logits([folder]) == wanted, "other bytes")
        self.expect(shoal("generate", model, "--cache", folder, "--prompt-ids", IDS, "--max-tokens", 1), OK)

    def test_usage(self):
        model = golden("qwen3_moe")
        self.expect(shoal("stage", model), USAGE, "--to DIR is missing")
        self.expect(shoal("stage", NOWHERE, "--to", self.path("to")), NO_INPUT, NOWHERE)
        self.expect(shoal("stage", model, "--to", self.path("w"), "--placement", "weighted"), USAGE, "write the shares ")
        self.expect(shoal("stage", model, "--to", self.path("a/b")), NO_INPUT, "--to ", "cannot be made")
        copy = self.path("copy")
        shutil.copytree(model, copy)
        self.expect(shoal("stage", copy, "--to", copy), USAGE, "that stage has not put there")
        folder = self.path("to")
        self.expect(shoal("stage", model, "--to", folder), OK)
        self.expect(shoal("stage", DEMO, "--to", folder), USAGE, "room for one model")
        self.expect(shoal("stage", folder, "--to", self.path("again")), NO_INPUT, "give the original")

    def test_no_room(self):
        folder = self.path("to")
        os.mkdir(folder)
        limited = subprocess.run(["sh", "-c", 'ulimit -f 2000; exec "$@"', "sh", BINARY, "stage", DEMO, "--to", folder],
                                 capture_output=True, text=True, env=environment(), timeout=100, check=False)
        self.assertEqual(limited.returncode, FAILED, limited.stderr)
        self.assertIn("cannot be written: File too large", limited.stderr)
        self.expect(shoal("generate", folder, "--prompt-ids", IDS), NO_INPUT, "which has not finished")
        self.expect(shoal("stage", DEMO, "--to", folder, "--verify"), OK)
        for mount, said in ((f"mount -t tmpfs -o size=4m none {folder}", "left, wanted "),
                            (f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}",
                             "nothing can be written there: Read-only file system")):
            if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, check=False).returncode != 0:
                continue
            run = subprocess.run(["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh", BINARY, "stage", DEMO, "--to", folder],
                                 capture_output=True, text=True, env=environment(), timeout=100, check=False)
            self.assertEqual(run.returncode, FAILED, run.stderr)
            self.assertIn(said, run.stderr)

    def test_hosts(self):
        """Hosts with disks of their own, joined by a network; MODEL on the first only; two ranks each."""
        reason = network.missing_privilege()
        if reason:
            self.skipTest(reason)
        with network.Hosts(2, own_disk=True) as hosts:
            shutil.copytree(DEMO, hosts.disk_of(0, "demo"))
            model, to = hosts.disk("demo"), hosts.disk("to")
            run = hosts.mpirun([BINARY, "stage", model, "--to", to, "--weights", "q4"], ranks_per_host=2)
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertIn("fish2 (ranks 2 to 3): ", run.stderr)
            for i in range(2):
                self.assertEqual(len(self.experts(hosts.disk_of(i, "to"))), 5 * 8)
            text = ["--prompt", "The sea", "--max-tokens", "8", "--weights", "q4"]
            for place in ([to], [model, "--cache", to]):
                run = hosts.mpirun([BINARY, "generate", *place, *text], ranks_per_host=2)
                self.assertEqual(run.returncode, 0, run.stderr)
                self.assertEqual(run.stdout, shoal("generate", DEMO, *text).out)


need_mpirun()
main()
