#!/usr/bin/env bash
# The second guard of the layers: in a development build a call into a layer that a folder may not
# use does not link, even if it is declared by hand and so seen by no check of includes. And the
# first guard is part of every build.
set -euo pipefail

root=$(mktemp -d "${TMPDIR:-/tmp}/shoal-link-XXXXXX")
trap 'rm -rf "$root"' EXIT
cd "$SHOAL_SOURCE_DIR"
mkdir "$root/tree"
cp -r CMakeLists.txt CMakePresets.json cmake runtime comm experts launcher scripts "$root/tree"
cd "$root/tree"
cmake --preset dev -B "$root/build" -DBUILD_TESTING=OFF >"$root/log" 2>&1 || { cat "$root/log"; exit 1; }

expect() { # expect 0|1 WORD TARGET: the build of TARGET passes, or fails and says WORD
    local status=0
    cmake --build "$root/build" --target "$3" >"$root/log" 2>&1 || status=1
    if [ "$status" != "$1" ] || ! grep -q -- "$2" "$root/log"; then
        tail -n 30 "$root/log"
        echo "building $3: wanted status $1 and \"$2\", got status $status"
        exit 1
    fi
}

expect 0 "" shoal_proto
cat >runtime/proto/planted.c <<'C'
void *shoal_arena_take(void *arena, unsigned long n, unsigned long elem_bytes);
void *shoal_proto_planted(void);
void *shoal_proto_planted(void)
{
    return shoal_arena_take((void *)0, 1, 1);
}
C
expect 0 "" shoal_proto # base is below proto
sed -i 's/shoal_arena_take/shoal_plan_build/' runtime/proto/planted.c
expect 1 "undefined reference to .shoal_plan_build" shoal_proto
rm runtime/proto/planted.c

expect 0 "no violation" check_layers
echo '#include "comm/plan.h"' >>runtime/proto/placement.h
expect 1 "runtime/proto may not include comm" check_layers
echo "both guards hold"
