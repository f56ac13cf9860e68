#!/usr/bin/env python3
"""scripts/check-layers accepts the tree as it is and sees each violation that is planted."""
import os
import shutil
import subprocess
import sys
import tempfile

SOURCE = os.environ["SHOAL_SOURCE_DIR"]
CHECK = os.path.join(SOURCE, "scripts", "check-layers")
SUFFIXES = (".c", ".h", ".cu", ".cuh", "CMakeLists.txt")

# file, line that is appended, what the check must say (None: it must accept it)
PLANTS = [
    ("comm/planted.c", '#include "experts/shard.h"', "comm may not include experts"),
    ("comm/mpi/planted.c", '#include "experts/shard.h"', "comm may not include experts"),
    ("experts/planted.c", '#include "comm/plan.h"', "experts may not include comm"),
    ("runtime/base/planted.h", '#include "runtime/kernels/kernels.h"', "may not include"),
    ("runtime/base/log.c", '#include "runtime/proto/placement.h"', "may not include"),
    ("runtime/kernels/cpu/planted.c", '#include "comm/wire.h"', "may not include comm"),
    ("runtime/model/planted.c", '#include "runtime/engine/engine.h"', "may not include"),
    ("runtime/model/planted.c", '#include "runtime/text/tokenizer.h"', "may not include"),
    ("runtime/engine/planted.c", '#include "runtime/text/tokenizer.h"', "may not include"),
    ("runtime/engine/planted.c", '# include   "launcher/options.h"', "may not include launcher"),
    ("runtime/text/planted.c", '#include "../base/log.h"', "from the repository root"),
    ("runtime/text/planted.c", '#include "runtime/base/gone.h"', "no such file"),
    ("runtime/text/planted.c", "#include PLANTED", "in quotes or angle brackets"),
    ("runtime/planted/x.c", '#include <stdio.h>', "belongs to no layer"),
    ("comm/planted.c", "#include <mpi.h>", "only comm/mpi"),
    ("comm/sim/planted.c", "#include <mpi.h>", "only comm/mpi"),
    ("launcher/planted.c", "#include <mpi.h>", "only comm/mpi"),
    ("launcher/planted.c", "#include <jansson.h>", "only runtime/base"),
    ("experts/planted.c", "#include <cyaml/cyaml.h>", "only runtime/base"),
    ("launcher/planted.c", "#include <hwloc.h>", "only runtime/base"),
    ("runtime/base/planted.c", "#include <pcre2.h>", "only runtime/text"),
    ("runtime/base/planted.c", "#include <utf8proc.h>", "only runtime/text"),
    ("runtime/engine/planted.c", "#include <protobuf-c/protobuf-c.h>", "only runtime/proto"),
    ("runtime/engine/planted.c", '#include "shoal.pb-c.h"', "only runtime/proto"),
    ("runtime/base/planted.c", "#include <check.h>", "only tests"),
    ("runtime/base/planted.c", "#include <curl/curl.h>", "without a door"),
    ("runtime/base/planted.c", "#include <glib.h>", "without a door"),
    ("comm/planted.c", 'const char *p(void) { return getenv("P"); }', "environment"),
    ("runtime/base/planted.c", 'char *p(void) { return secure_getenv("P"); }', "environment"),
    ("comm/planted.c", "void p(void) { exit(1); }", "only launcher/main.c"),
    ("runtime/base/planted.c", "void p(void) { abort(); }", "only launcher/main.c"),
    ("launcher/planted.c", "void p(void) { _exit(1); }", "only launcher/main.c"),
    ("launcher/planted.c", "void (*p)(int) = exit;", "only launcher/main.c"),
    ("comm/CMakeLists.txt", "shoal_library(shoal_comm SOURCES a.c USES shoal_experts)",
     "may not link experts"),
    ("runtime/base/CMakeLists.txt", "shoal_library(shoal_base SOURCES a.c\n  USES shoal_other)",
     "may not link it"),
    ("comm/mpi/planted.c", "#include <mpi.h>", None),
    ("launcher/bootstrap.c", "#include <mpi.h>", None),
    ("launcher/planted.c", 'const char *p(void) { return getenv("P"); }', None),
    ("launcher/main.c", "void p(void) { exit(1); }", None),
    ("comm/planted.c", "/* exit(1) and\n * getenv: #include <mpi.h> */ // abort()", None),
    ("comm/planted.c", 'const char *p = "exit(1) /* getenv"; int exit_code;', None),
    ("runtime/model/planted.c", '#include "comm/plan.h"\n#include <sys/stat.h>', None),
]


def run_check(root):
    done = subprocess.run([CHECK, root], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def main():
    failures = 0
    with tempfile.TemporaryDirectory(prefix="shoal-layers-") as root:
        for top in ("runtime", "comm", "experts", "launcher"):
            shutil.copytree(os.path.join(SOURCE, top), os.path.join(root, top), ignore=lambda folder, names: [
                n for n in names
                if not n.endswith(SUFFIXES) and not os.path.isdir(os.path.join(folder, n))])
        code, said = run_check(root)
        if code != 0:
            print(f"the tree itself: exit {code}\n{said}")
            return 1
        for path, line, wanted in PLANTS:
            full = os.path.join(root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            before = None
            if os.path.exists(full):
                with open(full) as f:
                    before = f.read()
            with open(full, "a") as f:
                f.write("\n" + line + "\n")
            at = f"{path}:{(before or '').count(chr(10)) + 2 + (line.count(chr(10)) if 'CMake' in path else 0)}:"
            code, said = run_check(root)
            if wanted is None and code != 0:
                print(f"refused: {path}: {line}\n{said}")
                failures += 1
            elif wanted is not None and (code != 1 or wanted not in said):
                print(f"not seen (exit {code}): {path}: {line}\n{said}")
                failures += 1
            elif wanted is not None and "no layer" not in wanted and at not in said:
                print(f"place {at} not named: {path}: {line}\n{said}")
                failures += 1
            if before is None:
                os.remove(full)
            else:
                with open(full, "w") as f:
                    f.write(before)
    print(f"{len(PLANTS)} plants, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
