#!/usr/bin/env python3
"""Bugs that are planted into the NCCL transport are found by the stand-in for libnccl."""
import os
import subprocess
import sys

PLANTED = {
    "none": None,
    "group_end": "while a group is open",
    "progress": "while an earlier call is in progress",
    "size": "receives 1000 bytes from rank",
    "finalize": "ncclCommDestroy of a communicator that is not finalised",
    "destroy": "the process leaves with a communicator that is neither destroyed nor aborted",
    "abort": "on a communicator that is aborted",
}


def main():
    program = os.path.join(os.environ["SHOAL_BUILD_DIR"], "tests", "comm", "nccl_planted")
    failed = 0
    running = {bug: subprocess.Popen(["mpirun", "--oversubscribe", "--bind-to", "none", "-np", "2", program, bug],
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for bug in PLANTED}
    for bug, text in PLANTED.items():
        ran = running[bug]
        said = ran.communicate(timeout=60)[0].decode(errors="replace")
        if text is None:
            good = ran.returncode == 0 and "nccl_emu:" not in said
        else:
            good = ran.returncode != 0 and any("nccl_emu:" in line and text in line
                                               for line in said.splitlines())
        if not good:
            failed += 1
            print(f"{bug}: exit {ran.returncode}, wanted {text!r} in:\n{said}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
