#!/usr/bin/env bash
# A file includes only its own layer or a lower one; tools see the public headers only.
#   layers.sh ROOT
set -euo pipefail
cd "$1"

layers=(base gpu ops nn train stack)
declare -A height
for i in "${!layers[@]}"; do height[${layers[i]}]=$i; done

# includes FILE: "FILE HEADER" for every include in quotes.
includes() { sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"([^"]+)".*/\1/p' "$1" | sed "s|^|$1 |"; }

found=0
complain() { echo "$*"; found=1; }

for file in src/*/*.[ch]; do
    layer=${file#src/}
    layer=${layer%%/*}
    [ -n "${height[$layer]:-}" ] || complain "$file: src/$layer is not a known layer"
    while read -r _ header; do
        case $header in
        */*) above=${header%%/*} ;;
        shared.h | shader_table.h) continue ;;
        *) complain "$file: \"$header\" should name its layer, as in \"base/log.h\""; continue ;;
        esac
        if [ -z "${height[$above]:-}" ]; then
            complain "$file: \"$header\" is in no layer"
        elif [ "${height[$above]}" -gt "${height[$layer]:-0}" ]; then
            complain "$file: $layer must not include $above, which lies above it ($header)"
        fi
    done < <(includes "$file")
done

for file in tools/*.[ch]; do
    while read -r _ header; do
        [ -e "tools/$header" ] || complain "$file: \"$header\" is not a file of tools; use <vkmoe/...>"
    done < <(includes "$file")
done

echo "$((1 - found)) passed, $found failed"
exit $found
