#!/bin/sh
# Installs into a temporary directory and builds and runs the example against what is installed, as a user would.
# usage: install.sh BUILD-DIRECTORY SOURCE-DIRECTORY
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
DESTDIR=$work meson install -C "$1" --no-rebuild --quiet
pc=$(find "$work" -name vkmoe.pc)
PKG_CONFIG_SYSROOT_DIR=$work PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_SYSROOT_DIR PKG_CONFIG_PATH
# shellcheck disable=SC2046
${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror "$2/examples/train_text.c" $(pkg-config --cflags --libs vkmoe) -o "$work/train_text"
# shellcheck disable=SC2046
${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror "$2/examples/own_device.c" $(pkg-config --cflags --libs vkmoe) -lvulkan -o "$work/own_device"
lib=$(dirname "$(find "$work" -name libvkmoe.so | head -n 1)")
command=$(find "$work" -path '*/bin/vkmoe')
LD_LIBRARY_PATH=$lib "$command" --version
LD_LIBRARY_PATH=$lib "$work/train_text" 2>/dev/null && exit 1
for i in $(seq 300); do echo "line $i: the quick brown fox jumps over the lazy dog"; done >"$work/text"
LD_LIBRARY_PATH=$lib "$work/train_text" "$work/text" "$work/model" 3 >"$work/out"
grep -q 'validation loss' "$work/out" && [ -s "$work/model/model.safetensors" ]
LD_LIBRARY_PATH=$lib "$work/own_device" "$work/text" >"$work/out"
grep -q 'loss [0-9]' "$work/out"
