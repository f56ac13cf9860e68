#!/usr/bin/env bash
# Rule 1 over instruction sets: the kernels cross-compiled for AArch64 give under qemu-user, value for value, what the reference gives
# on this machine: those of `neon` on a CPU with the dot product extension, those of `reference` on any; and `auto` knows which it has.
set -euo pipefail

if [ "$(uname -m)" = aarch64 ]; then
    echo "skipped: this is an AArch64 machine; the comparison is with another instruction set"
    exit 77
fi
for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
    command -v "$tool" >/dev/null || {
        echo "skipped: no $tool here (scripts/install-deps installs it on Debian)"
        exit 77
    }
done

folder=$SHOAL_BUILD_DIR/aarch64
digest=$folder/tests/kernels/kernel_digest
{
    cmake --toolchain "$SHOAL_SOURCE_DIR/cmake/aarch64-linux-gnu.cmake" -S "$SHOAL_SOURCE_DIR" -B "$folder" -G Ninja \
        -DSHOAL_KERNELS_ONLY=ON -DCMAKE_BUILD_TYPE=Release &&
        cmake --build "$folder"
} >"$SHOAL_BUILD_DIR/aarch64.log" 2>&1 || {
    tail -n 30 "$SHOAL_BUILD_DIR/aarch64.log"
    exit 1
}

"$SHOAL_BUILD_DIR/tests/kernels/kernel_digest" reference >"$folder/lines"
tail -n +2 "$folder/lines" >"$folder/want"
[ "$(wc -l <"$folder/want")" -gt 1000 ]

compare() { # compare CPU ASKED CHOSEN
    qemu-aarch64 -cpu "$1" "$digest" "$2" >"$folder/lines"
    [ "$(head -n 1 "$folder/lines")" = "kernels $3" ] || {
        echo "on $1, $2: wanted $3, got $(head -n 1 "$folder/lines")"
        exit 1
    }
    tail -n +2 "$folder/lines" >"$folder/got"
    diff "$folder/want" "$folder/got" >"$folder/differences" || {
        head -n 20 "$folder/differences"
        echo "on $1, $3 differs from $(uname -m)'s reference in $(grep -c '^>' "$folder/differences") values"
        exit 1
    }
    echo "on $1, $2: $3, $(wc -l <"$folder/got") digests are those of $(uname -m)"
}
compare max neon neon
compare max reference reference
compare max auto neon
compare cortex-a76 auto neon
compare cortex-a53 auto reference

status=0
qemu-aarch64 -cpu cortex-a53 "$digest" neon >"$folder/lines" 2>&1 || status=$?
if [ "$status" != 69 ] || ! grep -q "dot product" "$folder/lines"; then
    cat "$folder/lines"
    echo "on cortex-a53, neon: wanted status 69 and what is lacking, got $status"
    exit 1
fi
