#!/usr/bin/env python3
"""--transport nccl on emulated GPUs, over the stand-in for libnccl: the same ids as by MPI; clear words when NCCL is not there
or a rank has no GPU; failures of NCCL and of a GPU end everything in time, and the right rank is named."""
import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import shoal_test  # noqa: E402
from shoal_test import BUILD, OK, TRY_AGAIN, UNAVAILABLE, USAGE, ShoalTest, environment, golden, main, need_mpirun, shoal  # noqa: E402

shoal_test.BINARY = os.path.join(BUILD, "tests", "shoal-emu")
LIBRARY = os.path.join(BUILD, "tests", "libshoal_nccl_emu.so")
HOST = socket.gethostname()
DEADLINE_S = 2


def generate(np, *options, emu="", n_device=4, **more):
    return shoal("generate", golden("mixtral"), "--prompt-ids", "5,6,7,8", "--ignore-eos", "--json", "--threads", 1,
                 "--deadline", DEADLINE_S, *options, np=np, timeout=60,
                 env=environment(NCCL_EMU=emu, SHOAL_CUDA_EMU=f"n_device={n_device}", **more))


def by_nccl(np, *options, **more):
    return generate(np, "--device", "cuda", "--transport", "nccl", "--nccl-library", LIBRARY, *options, **more)


class Works(ShoalTest):
    def test_the_same_ids(self):
        want = self.expect(generate(2, "--device", "cuda", "--transport", "mpi", "--max-tokens", 2), OK).json["ids"]
        run = self.expect(by_nccl(3, "--max-tokens", 2, emu="seed=2,ring=500"), OK, "rows travel by NCCL 2.21.5")
        self.assertEqual(run.json["ids"], want, run)
        run = self.expect(generate(2, "--device", "cuda", "--nccl-library", LIBRARY, "--max-tokens", 2), OK, "rows travel by ")
        self.assertEqual(run.json["ids"], want, run)  # auto: whatever was measured to be faster


class Starts(ShoalTest):
    def test_a_rank_without_gpu(self):
        run = generate(2, "--device", "cuda,cpu", "--transport", "nccl", "--nccl-library", LIBRARY)
        self.expect(run, USAGE, f"rank 1 ({HOST}) computes on its processor", "--transport mpi")
        self.assertEqual(len(run.errors()), 1, run)

    def test_no_library(self):
        run = self.expect(generate(2, "--device", "cuda", "--transport", "nccl", "--nccl-library", "/nowhere/libnccl.so.2"),
                          UNAVAILABLE, "/nowhere/libnccl.so.2", "--nccl-library PATH", "--transport mpi")
        self.assertEqual(len(run.errors()), 1, run)

    def test_it_does_not_come_up(self):
        self.expect(by_nccl(2, emu="rank=1,do=init_hang"), UNAVAILABLE, "has not connected the ranks within 2 s")


class Fails(ShoalTest):
    def strike(self, np, *options, status=(TRY_AGAIN,), **more):
        run = by_nccl(np, "--max-tokens", 200, *options, **more)
        self.assertIn(run.code, status, run)
        self.assertIn(f"rank 1 ({HOST}) is lost", run.err, run)
        for other in (0, 2):
            self.assertNotIn(f"rank {other} ({HOST}) is lost", run.err, run)
        return run

    def test_an_asynchronous_error(self):
        self.strike(3, emu="rank=1,after=20,do=error:1")

    def test_a_silent_peer(self):
        self.strike(3, emu="rank=1,after=20,do=silent")

    def test_a_gpu_is_lost(self):
        self.strike(2, "--fault", "rank=1,step=1,layer=1,do=device", status=(UNAVAILABLE, TRY_AGAIN))


need_mpirun()
main()
