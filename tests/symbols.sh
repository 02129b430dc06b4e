#!/usr/bin/env bash
# The shared library exports vkmoe_* and nothing else.
#   symbols.sh LIBRARY
set -euo pipefail

exported=$(nm -D --defined-only "$1" | awk '{ print $NF }' | sed 's/@.*//')
strangers=$(grep -v '^vkmoe_' <<<"$exported" || true)
if ! grep -q '^vkmoe_version$' <<<"$exported"; then
    echo "vkmoe_version is not exported"
    strangers=${strangers:-none}
elif [ -n "$strangers" ]; then
    printf 'exported, but not vkmoe_*:\n%s\n' "$strangers"
fi
if [ -n "$strangers" ]; then
    echo "0 passed, 1 failed"
    exit 1
fi
echo "1 passed, 0 failed"
