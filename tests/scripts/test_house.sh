#!/usr/bin/env bash
# scripts/dev fmt --check and lint see violations that are planted, and pass clean files.
set -euo pipefail

dev=$SHOAL_SOURCE_DIR/scripts/dev
folder=$(mktemp -d "${TMPDIR:-/tmp}/shoal-house-XXXXXX")
trap 'rm -rf "$folder"' EXIT

expect() { # expect STATUS WORD COMMAND...
    local wanted=$1 word=$2 status=0
    shift 2
    "$@" >"$folder/log" 2>&1 || status=$?
    if [ "$status" = 77 ]; then
        tail -n 1 "$folder/log"
        exit 77
    fi
    if [ "$status" != "$wanted" ] || ! grep -q -- "$word" "$folder/log"; then
        cat "$folder/log"
        echo "$*: wanted status $wanted and \"$word\", got status $status"
        exit 1
    fi
}

printf 'int shoal_add(int a, int b)\n{\n    return a + b;\n}\n' >"$folder/clean.c"
printf 'int shoal_add(int a,int b) {return a+b;}\n' >"$folder/format.c"
printf 'int shoal_same(int a)\n{\n    return a == a;\n}\n' >"$folder/lint.c"
expect 0 "" "$dev" fmt --check "$folder/clean.c"
expect 1 "format.c" "$dev" fmt --check "$folder/clean.c" "$folder/format.c"
expect 0 "" "$dev" lint "$folder/clean.c"
expect 1 "misc-redundant-expression" "$dev" lint "$folder/lint.c"
expect 2 "unknown command" "$dev" nonsense
expect 2 "unknown preset" "$dev" build nonsense
expect 0 "usage" "$dev" help
echo "planted violations are seen"
