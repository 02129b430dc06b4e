#!/usr/bin/env bash
# Runs the fuzz targets for a time each, two side by side, and prints a line of each. Builds them first, with clang, in
# build-fuzz, where what was found out stays: corpus/TARGET, from which the next run goes on, and findings/TARGET. Status 1 if
# there is a finding: build-fuzz/tests/fuzz/fuzz_TARGET FILE shows it again.
#
#   tests/fuzz/run.sh SECONDS [TARGET...]

set -euo pipefail
cd "$(dirname "$0")/../.."

all=(safetensors model stack text report bench cache words)
seconds=${1:-}
case $seconds in
'' | *[!0-9]*) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
shift
targets=("$@")
[ $# -gt 0 ] || targets=("${all[@]}")

build='build-fuzz'
programs=$build/tests/fuzz
[ -e $build/build.ninja ] || CC=clang meson setup $build -Dfuzz=true -Dtests=disabled -Dwerror=true >/dev/null
ninja -C $build --quiet fuzz
for target in "${targets[@]}"; do
    [ -x "$programs/fuzz_$target" ] || { echo "fuzz: no target $target; there are ${all[*]}" >&2; exit 2; }
done

work=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
export FUZZ_DIR=$work # a target that fails leaves its files behind
# shellcheck disable=SC2154 # job is of the trap's own loop
trap 'for job in $(jobs -p); do kill "$job" 2>/dev/null || true; done; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
"$programs/fuzz_seeds" "$work/seeds"

# What the files of TARGET's seeds are made of, for libFuzzer to put in elsewhere.
dictionary() {
    grep -rhaoE '[A-Za-z0-9_.|<>+=-]{3,40}' "$work/seeds/$1" | sort -u | sed 's/.*/"&"/'
}

# fuzz TARGET: its line, and $work/TARGET.bad where there is a finding.
fuzz() {
    local target=$1 findings=$build/findings/$1 corpus=$build/corpus/$1 log=$work/$1.log runs coverage found
    mkdir -p "$findings" "$corpus"
    dictionary "$target" >"$work/$target.dict"
    touch "$work/$target.begun"
    # A leak is a finding, and so is an allocation that no input of this size has a reason for.
    if "$programs/fuzz_$target" -max_total_time="$seconds" -max_len=16384 -timeout=20 -rss_limit_mb=1024 -malloc_limit_mb=200 \
        -detect_leaks=1 -print_final_stats=1 -close_fd_mask=3 -dict="$work/$target.dict" -artifact_prefix="$findings/" \
        "$corpus" "$work/seeds/$target" >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        coverage=$(sed -nE 's/^#.* cov: ([0-9]+) ft: ([0-9]+) corp: ([0-9]+).*/\1 edges, \2 features, \3 inputs/p' "$log" |
            tail -n 1)
        echo "$target: $runs runs in $seconds s, $coverage"
    else
        found=$(find "$findings" -type f -newer "$work/$target.begun" | sed -n 1p)
        grep -aE -A 25 'ERROR|runtime error|SUMMARY|does not hold' "$log" | head -n 60 >"$work/$target.bad" || true
        [ -s "$work/$target.bad" ] || tail -n 20 "$log" >"$work/$target.bad"
        echo "$target: FAILED; the input is in ${found:-(none was kept)}"
    fi
}

pids=()
for target in "${targets[@]}"; do
    if [ ${#pids[@]} -ge 2 ]; then
        wait -n || true
        mapfile -t pids < <(jobs -rp)
    fi
    fuzz "$target" &
    pids+=($!)
done
wait

bad=0
for target in "${targets[@]}"; do
    if [ -e "$work/$target.bad" ]; then
        bad=$((bad + 1))
        printf -- '-- %s\n' "$target"
        cat "$work/$target.bad"
    fi
done
echo "$((${#targets[@]} - bad)) passed, $bad failed"
[ $bad -eq 0 ]
