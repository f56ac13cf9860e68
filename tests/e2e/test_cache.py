#!/usr/bin/env python3
"""--cache DIR: the same bytes with and without; ranks of a host, other placements and other rank counts share it; what is stale,
damaged, half written or has no room is said and does no harm; --verify finds what nobody sees."""
import glob
import os
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from shoal_test import (BAD_DATA, BINARY, DEMO, NO_INPUT, OK, USAGE, ShoalTest, environment, golden, main,  # noqa: E402
                        need_mpirun, read_safetensors, shoal, start)

IDS = "5,6,7,8,9,10,11,12"


def in_mount(mount, *arguments):
    """A shoal in a mount namespace of its own, in which `mount` (a shell line) was done; None where that is not allowed."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode != 0:
        return None
    return subprocess.run(["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh", BINARY, *map(str, arguments)],
                          capture_output=True, text=True, env=environment(), timeout=100)


class Cache(ShoalTest):
    def setUp(self):
        super().setUp()
        self.dir = self.path("cache")

    def logits(self, model, *options, np=0, said=()):
        out = self.path("out.safetensors")
        run = self.expect(shoal("logits", model, "--ids", IDS, "--output", out, *options, np=np), OK, *said)
        return read_safetensors(out), run

    def cached(self, model, *options, np=0, said=()):
        return self.logits(model, "--cache", self.dir, *options, np=np, said=said)[0]

    def generate(self, model, *options, np=0):
        """The ids, and what each rank says of itself."""
        run = self.expect(shoal("generate", model, "--prompt-ids", IDS, "--max-tokens", 6, "--json", "--cache", self.dir, *options,
                                np=np), OK)
        return run.json["ids"], run.json["ranks"]

    def reads_nothing(self, model, *options, np=0):
        _, ranks = self.generate(model, *options, np=np)
        self.assertEqual([r["weight_bytes_read"] for r in ranks], [0] * len(ranks))
        self.assertTrue(all(r["memory"]["mapped_bytes"] > 0 for r in ranks))
        self.assertTrue(all(r["memory"]["attention_bytes"] == 0 for r in ranks))

    def files(self, pattern="*.pack"):
        return sorted(glob.glob(os.path.join(self.dir, "*", pattern)))

    def flip(self, path, at):
        """A bit of the byte at `at`, from the end if negative."""
        with open(path, "r+b") as file:
            file.seek(at, os.SEEK_SET if at >= 0 else os.SEEK_END)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 8]))

    def test_same_bytes(self):
        """Every format and layout of experts: packed, kept, mapped by two ranks, by three with another placement, and by one."""
        other = self.write("placement.yaml", "ranks:\n  - { experts: 1, sequences: 1 }\n  - { experts: 2, sequences: 1 }\n"
                                             "  - { experts: 0.3, sequences: 0 }\n")
        for model, options in ((DEMO, ()), (DEMO, ("--weights", "q4")), (golden("qwen3_moe"), ("--weights", "q8")),
                               (golden("deepseek_v3-fp8"), ()), (golden("gpt_oss-mxfp4"), ()), (golden("granitemoe"), ()),
                               (golden("gpt_oss"), ("--weights", "bf16"))):
            with self.subTest(model=os.path.basename(model), options=options):
                wanted, _ = self.logits(model, *options)
                self.assertTrue(self.cached(model, *options, np=2) == wanted, "packing")
                self.assertTrue(self.cached(model, *options, np=2) == wanted, "mapped")
                self.assertTrue(self.cached(model, *options, "--placement", other, "--verify", np=3) == wanted, "three")
                self.assertTrue(self.cached(model, *options, "--verify") == wanted, "one")
                self.reads_nothing(model, *options, "--placement", other, np=3)

    def test_mtp_layer_is_added(self):
        model = golden("deepseek_v3-mtp")
        drafts = ("--draft", "mtp")
        plain, _ = self.generate(model)
        first, ranks = self.generate(model, *drafts, np=2)
        self.assertGreater(sum(r["weight_bytes_read"] for r in ranks), 0)
        again, ranks = self.generate(model, *drafts)
        self.assertEqual((plain, plain), (first, again))
        self.assertEqual(ranks[0]["weight_bytes_read"], 0)
        self.reads_nothing(model)

    def test_says_what_is_mapped(self):
        self.cached(DEMO)
        self.logits(DEMO, "--cache", self.dir, said=(f"; mapped from {self.dir}, shared by the ranks of a host: ",))

    def test_starts_at_once(self):
        """Two jobs of two ranks write the same files."""
        wanted, _ = self.logits(DEMO)
        jobs = [start("logits", DEMO, "--ids", IDS, "--output", self.path(f"{i}.safetensors"), "--cache", self.dir, np=2)
                for i in range(2)]
        for i, job in enumerate(jobs):
            err = job.communicate(timeout=100)[1].decode()
            self.assertEqual(job.returncode, 0, err)
            self.assertNotIn("warn", err)
            self.assertTrue(read_safetensors(self.path(f"{i}.safetensors")) == wanted, "other bytes")
        self.reads_nothing(DEMO, "--verify")

    def test_killed_while_writing(self):
        wanted, _ = self.logits(DEMO)
        for n_file in (1, 4, 9):
            job = start("logits", DEMO, "--ids", IDS, "--output", self.path("out"), "--cache", self.dir)
            deadline = time.monotonic() + 60
            while len(self.files()) < n_file and job.poll() is None and time.monotonic() < deadline:
                time.sleep(0.001)
            os.killpg(job.pid, signal.SIGKILL)
            job.communicate()
            n_kept = len(self.files())
            self.assertTrue(self.cached(DEMO, "--verify") == wanted, f"other bytes with {n_kept} files")
            self.reads_nothing(DEMO)
            for path in self.files()[n_file:]:
                os.unlink(path)

    def test_damaged_files(self):
        wanted, _ = self.logits(DEMO)
        self.cached(DEMO)
        damages = {
            "its header is damaged": lambda path: self.flip(path, 20),
            "entries are damaged or cut off": lambda path: self.flip(path, 100),
            "is no pack file": lambda path: shutil.copyfile(__file__, path),
            "bytes, its index alone": lambda path: os.truncate(path, 1000),
            "ends at byte 0": lambda path: os.truncate(path, 0),
            "are damaged or cut off": lambda path: os.truncate(path, os.path.getsize(path) - 1),
        }
        for text, damage in damages.items():
            with self.subTest(damage=text):
                path = self.files("layer-00002-experts.pack")[0]
                damage(path)
                self.assertTrue(self.cached(DEMO, np=2, said=(text, os.path.basename(path))) == wanted, "other bytes")
                self.reads_nothing(DEMO, "--verify")

    def test_verify(self):
        self.cached(DEMO)
        path = self.files("layer-00003-experts.pack")[0]
        self.flip(path, -300)
        self.cached(DEMO)  # not looked at
        out = self.path("out")
        run = self.expect(shoal("logits", DEMO, "--ids", IDS, "--output", out, "--cache", self.dir, "--verify", np=2), BAD_DATA,
                          "layer-00003-experts.pack", "of layer 3, expert ", "have checksum ", "wanted ", "remove the file")
        self.assertEqual(len(run.errors()), 1, run)
        os.unlink(path)
        self.cached(DEMO, "--verify")
        self.reads_nothing(DEMO, "--verify")
        self.flip(self.files("model.pack")[0], -300)
        self.expect(shoal("logits", DEMO, "--ids", IDS, "--output", out, "--cache", self.dir, "--verify"), BAD_DATA, "model.pack")

    def test_stale(self):
        model = self.path("model")
        shutil.copytree(golden("qwen3_moe"), model)
        wanted, _ = self.logits(model)
        self.cached(model)
        weights = os.path.join(model, "model.safetensors")
        with open(weights, "r+b") as file:  # other weights of the same size, under the same header
            file.seek(-64, os.SEEK_END)
            tail = file.read()
            file.seek(-64, os.SEEK_END)
            file.write(tail[::-1])
        os.utime(weights, ns=(0, 1))
        changed, _ = self.logits(model)
        self.assertFalse(changed == wanted)
        self.assertTrue(self.cached(model, said=("is stale: ",)) == changed, "of the old weights")
        self.assertEqual(len(os.listdir(self.dir)), 2)
        self.assertNotIn("stale", self.logits(model, "--cache", self.dir)[1].err)

    def test_full_disk(self):
        wanted, _ = self.logits(DEMO)
        os.mkdir(self.dir)
        out = self.path("out.safetensors")
        arguments = ["logits", DEMO, "--ids", IDS, "--output", out, "--cache", self.dir]
        limited = subprocess.run(["sh", "-c", 'ulimit -f 2000; exec "$@"', "sh", BINARY, *arguments], capture_output=True, text=True,
                                 env=environment(), timeout=100)
        self.assertEqual(limited.returncode, 0, limited.stderr)
        self.assertIn("cannot be written: File too large; the run goes on", limited.stderr)
        self.assertTrue(read_safetensors(out) == wanted)
        shutil.rmtree(self.dir)
        os.mkdir(self.dir)
        full = in_mount(f"mount -t tmpfs -o size=2m none {self.dir}", *arguments)
        if full is not None:
            self.assertEqual(full.returncode, 0, full.stderr)
            self.assertIn("cannot be written: No space left on device; the run goes on", full.stderr)
            self.assertTrue(read_safetensors(out) == wanted)

    def test_read_only(self):
        wanted, _ = self.logits(DEMO)
        self.cached(DEMO)
        os.unlink(self.files("layer-00003-experts.pack")[0])
        out = self.path("out.safetensors")
        run = in_mount(f"mount --bind {self.dir} {self.dir} && mount -o remount,ro,bind {self.dir}", "generate", DEMO,
                       "--prompt-ids", IDS, "--max-tokens", 1, "--json", "--cache", self.dir)
        if run is None:
            self.skipTest("no mount namespaces here")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("nothing can be written", run.stderr)
        self.assertNotIn("layer", run.stderr.replace("layers", ""))
        run = in_mount(f"mount --bind {self.dir} {self.dir} && mount -o remount,ro,bind {self.dir}", "logits", DEMO, "--ids", IDS,
                       "--output", out, "--cache", self.dir)
        self.assertTrue(read_safetensors(out) == wanted)
        self.assertEqual(self.files("layer-00003-experts.pack"), [])

    def test_usage(self):
        out = self.path("out")
        self.expect(shoal("logits", DEMO, "--ids", IDS, "--output", out, "--verify"), USAGE, "--verify needs --cache DIR")
        self.expect(shoal("logits", DEMO, "--ids", IDS, "--output", out, "--cache", self.path("a/b")), NO_INPUT, "--cache ")
        self.expect(shoal("logits", DEMO, "--ids", IDS, "--output", out, "--cache", self.write("file", "x")), NO_INPUT,
                    "is no folder")


need_mpirun()
main()
