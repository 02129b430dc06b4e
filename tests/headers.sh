#!/bin/sh
# Each public header compiles alone, as C11 and as C++17, without a warning.
# usage: headers.sh SOURCE-DIRECTORY
set -eu
passed=0
for header in "$1"/include/vkmoe/*.h; do
    for language in 'c -std=c11' 'c++ -std=c++17'; do
        # shellcheck disable=SC2086
        printf '#include <vkmoe/%s>\n' "$(basename "$header")" |
            "${CC:-cc}" -x $language -I "$1/include" -Wall -Wextra -Wpedantic -Werror -fsyntax-only -
        passed=$((passed + 1))
    done
done
echo "$passed passed, 0 failed"
