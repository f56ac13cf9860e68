#!/usr/bin/env bash
# clang-tidy finds nothing in any C file.
exec "$SHOAL_SOURCE_DIR/scripts/dev" lint
