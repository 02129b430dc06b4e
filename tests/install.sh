#!/bin/sh
# Installs into a temporary directory, and builds and runs the examples against what is installed, as a user would: with a
# Makefile, and as a meson project of its own.
# usage: install.sh BUILD-DIRECTORY SOURCE-DIRECTORY
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
DESTDIR=$work meson install -C "$1" --no-rebuild --quiet
pc=$(find "$work" -name vkmoe.pc)
sed -i "s|^prefix=|prefix=$work|" "$pc" # not PKG_CONFIG_SYSROOT_DIR, which would move the other libraries, too
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
lib=$(dirname "$(find "$work" -name libvkmoe.so | head -n 1)")
command=$(find "$work" -path '*/bin/vkmoe')
export LD_LIBRARY_PATH="$lib"
"$command" --version

cp -r "$2/examples" "$work/examples"
make --silent -C "$work/examples" CFLAGS='-O2 -Wall -Wextra -Wpedantic -Werror'
"$work/examples/train_text" 2>/dev/null && exit 1
for i in $(seq 300); do echo "line $i: the quick brown fox jumps over the lazy dog"; done >"$work/text"
"$work/examples/train_text" "$work/text" "$work/model" 3 >"$work/out"
grep -q 'validation loss' "$work/out" && [ -s "$work/model/latest/model.safetensors" ]
"$work/examples/own_device" "$work/text" >"$work/out"
grep -q 'loss [0-9]' "$work/out"

# Two layers, so that memory and the map's layer differ from the usual; under the validation layers where they are asked for.
meson setup "$work/paint" "$work/examples/paint" -Dwerror=true >/dev/null
ninja -C "$work/paint" --quiet
paint() { "$work/paint/paint" ${VKMOE_VALIDATE:+--validate} "$@"; }
paint --size 48 --batch 256 --layers 2 --layer 1 --frames 3 --steps-per-frame 40 --out "$work/frames" >"$work/out"
cat "$work/out"
# It learns: the steps of two more frames are worth 1 dB at least.
awk '/PSNR/ { for (i = 1; i < NF; i++) if ($i == "PSNR") { if (!n++) first = $(i + 1); last = $(i + 1) } }
     END { exit !(n == 3 && last > first + 1) }' "$work/out"
[ "$(find "$work/frames" -name 'frame-*.png' -size +1k | wc -l)" = 3 ]
for bad in '--experts 0' '--nonsense' '--top-k 9' "--image $work/none.png --out $work/frames" '--balance magic'; do
    # shellcheck disable=SC2086
    if paint $bad >/dev/null 2>"$work/err"; then
        echo "paint $bad: did not fail" && exit 1
    fi
    [ "$(wc -l <"$work/err")" = 1 ] || { cat "$work/err" && exit 1; }
done
