#!/usr/bin/env bash
# Installs what is missing, builds vkmoe and trains the preset "demo" on text: two minutes on two CPU cores, less on a
# GPU. Shows the loss before and after, how the experts share the load, and a sample of what the model writes.
#
#   tools/demo.sh             trains on vkmoe's own sources and documents
#   tools/demo.sh TEXT...     trains on files or directories of UTF-8 text

set -euo pipefail
case ${1:-} in
--help | -h) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
-*) echo "demo: no flag $1; what can be given are files and directories of text" >&2; exit 2 ;;
esac

texts=()
for text in "$@"; do
    [ -e "$text" ] || { echo "demo: there is no $text" >&2; exit 1; }
    texts+=(--data "$(realpath "$text")")
done
cd "$(dirname "$0")/.."

tools/setup.sh
[ -e build/build.ninja ] || meson setup build -Dtests=disabled >/dev/null
ninja -C build --quiet

if [ ${#texts[@]} -eq 0 ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # In a shuffled order, always the same, so that the end that is held out is not all of one kind.
    find README.md docs include shaders src tests tools -type f \
        \( -name '*.[ch]' -o -name '*.comp' -o -name '*.glsl' -o -name '*.md' -o -name '*.sh' \) -print0 |
        sort -z -R --random-source=<(yes) | xargs -0 cat >"$work/vkmoe.txt"
    texts=(--data "$work/vkmoe.txt")
fi

out=run/demo number=1
while [ -e "$out" ]; do
    number=$((number + 1))
    out=run/demo-$number
done
mkdir -p run

build/tools/vkmoe train "${texts[@]}" --preset demo --out "$out"
echo
build/tools/vkmoe generate --model "$out" --prompt "The " --max-tokens 400
