#!/usr/bin/env bash
# Every C file is formatted as .clang-format says.
exec "$SHOAL_SOURCE_DIR/scripts/dev" fmt --check
