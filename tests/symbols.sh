#!/usr/bin/env bash
# The shared library exports the functions of the public headers, all of them and nothing else; the objects that a static one is
# made of define no name that another library could have: in particular none of Vulkan's, as volk does.
#   symbols.sh LIBRARY OBJECTS HEADER...
set -euo pipefail

library=$1 objects=$2
shift 2
passed=0 failed=0
verdict() {
    if [ -z "$2" ]; then
        passed=$((passed + 1))
    else
        printf '%s:\n%s\n' "$1" "$2"
        failed=$((failed + 1))
    fi
}

exported=$(nm -D --defined-only "$library" | awk '{ print $NF }' | sed 's/@.*//' | sort -u)
declared=$(sed -n '/^VKMOE_API/s/.*\(vkmoe_[a-z0-9_]*\)(.*/\1/p' "$@" | sort -u)
verdict 'exported, but in no header' "$(comm -23 <(echo "$exported") <(echo "$declared"))"
verdict 'in a header, but not exported' "$(comm -13 <(echo "$exported") <(echo "$declared"))"
verdict 'defined, but not vkm...' "$(nm --defined-only -g "$objects" | awk 'NF == 3 { print $3 }' | grep -v '^vkm' || true)"
verdict "taken from a Vulkan loader that it does not link (volk's are variables of the same name)" \
    "$(nm -u "$objects" | awk '$2 ~ /^vk[A-Z]/ { print $2 }')"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
