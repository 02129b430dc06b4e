#!/usr/bin/env bash
# Installs what is missing, builds, and runs all tests with the Vulkan validation layers on: on Mesa's software driver
# (lavapipe) all of them; on Debian 12's older one and on SwiftShader those that depend on the driver. All again, built with
# AddressSanitizer and UndefinedBehaviorSanitizer, without the layers. GPUs' compilers take every kernel (tests/compilers.sh).
# Every parser is fuzzed (tests/fuzz). The last line sums it up: "N passed, N failed".
#
#   tools/test.sh             everything; a driver that cannot be had is left out, and so is fuzzing without clang, and said so
#   tools/test.sh --all       the same, but what cannot be had is a failure, and fuzzing takes twenty seconds a target, not ten
#   tools/test.sh --quick     lavapipe alone, without the sanitizers and without fuzzing

set -euo pipefail
cd "$(dirname "$0")/.."

quick=no all=no
for flag in "$@"; do
    case $flag in
    --quick) quick=yes ;;
    --all) all=yes ;;
    --help | -h) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "test: no flag $flag; there are --all and --quick" >&2; exit 2 ;;
    esac
done

jobs=$(mktemp -d)
# shellcheck disable=SC2154 # group is of the trap's own loop
trap 'for group in $(jobs -p); do kill -- "-$group" 2>/dev/null || true; done; rm -rf "$jobs"' EXIT
trap 'exit 130' INT TERM

drivers=${XDG_CACHE_HOME:-$HOME/.cache}/vkmoe/drivers # where setup.sh --tests leaves them
passed=0 failed=0

# build DIRECTORY OPTION...
build() {
    local dir=$1
    shift
    echo "== building in $dir"
    if [ -e "$dir/build.ninja" ]; then
        meson configure "$dir" "$@"
    else
        meson setup "$dir" "$@" >/dev/null
    fi
    ninja -C "$dir" --quiet
}

# count LOG: sums the closing lines of the test programs in meson's log. A program that failed without saying how is one failure,
# and so is each leak: LeakSanitizer reports after Criterion has called a test passed.
count() {
    python3 - "$1" <<'END'
import json, re, sys
passed = failed = 0
for line in open(sys.argv[1], encoding="utf-8"):
    test = json.loads(line)
    text = re.sub(r"\x1b\[[0-9;]*m", "", test.get("stdout", "") + "\n" + test.get("stderr", ""))
    ok = test["result"] in ("OK", "SKIP")
    bad = 0
    for match in re.finditer(r"Passing: (\d+) \| Failing: (\d+) \| Crashing: (\d+)", text):
        passed += int(match[1])
        bad += int(match[2]) + int(match[3])
    for match in re.finditer(r"^(\d+) passed, (\d+) failed$", text, re.M):
        passed += int(match[1])
        bad += int(match[2])
    for leak in re.finditer(r"ERROR: LeakSanitizer.*?^SUMMARY", text, re.M | re.S):
        bad += 1
        print(f"{test['name']}: {leak[0]}", file=sys.stderr)
    failed += bad if bad or ok else 1
print(passed, failed)
END
}

# run_tests NAME DIRECTORY ICD FLAG...: the tests that meson's flags leave, told when they are done; the sum in $jobs/NAME.
run_tests() {
    local name=$1 dir=$2 icd=$3 start=$SECONDS good bad
    local log=$jobs/$name.log sums=$dir/meson-logs/$name.json
    shift 3
    rm -f "$sums"
    VK_ICD_FILENAMES=$icd VK_DRIVER_FILES=$icd VKMOE_REQUIRE_DEVICE=1 \
        meson test -C "$dir" --no-rebuild --print-errorlogs --logbase "$name" "$@" >"$log" 2>&1 || true
    if ! read -r good bad < <(count "$sums"); then
        good=0 bad=1
    fi
    echo "$good $bad" >"$jobs/$name.sum"
    {
        echo "== tests on $name"
        cat "$log"
        echo "== $name: $good passed, $bad failed in $((SECONDS - start)) s"
    } >"$log.told"
    cat "$log.told"
}

# fuzz SECONDS: every target for so long, each a test; the sum in $jobs/fuzzing.sum.
fuzz() {
    local start=$SECONDS log=$jobs/fuzzing.log good bad
    tests/fuzz/run.sh "$1" >"$log" 2>&1 || true
    if ! read -r good bad < <(sed -nE '$s/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$log"); then
        good=0 bad=1
    fi
    echo "$good $bad" >"$jobs/fuzzing.sum"
    {
        echo "== fuzzing"
        sed '$d' "$log"
        echo "== fuzzing: $good passed, $bad failed in $((SECONDS - start)) s"
    } >"$log.told"
    cat "$log.told"
}

# add NAME: its sum into the total; a run that has none broke off.
add() {
    local good=0 bad=1
    [ ! -e "$jobs/$1.sum" ] || read -r good bad <"$jobs/$1.sum"
    passed=$((passed + good)) failed=$((failed + bad))
}

tools/setup.sh --tests

lavapipe=$(find /usr/share/vulkan /usr/local/share/vulkan -name 'lvp_icd*.json' 2>/dev/null | sed -n 1p) || true
if [ -z "$lavapipe" ]; then
    echo "test: Mesa's software driver (lvp_icd.json) is not installed; see tools/setup.sh --check" >&2
    exit 1
fi

everything=(--no-suite smoke)                       # the smoke tests are among the command's
by_driver=(--no-suite host --no-suite command)
export VKMOE_VALIDATE=1

# run NAME: that run.
run() {
    case $1 in
    lavapipe) run_tests "$1" build-test "$lavapipe" "${everything[@]}" ;;
    sanitizers) (unset VKMOE_VALIDATE; run_tests "$1" build-asan "$lavapipe" "${everything[@]}") ;;
    fuzzing) fuzz "$fuzz_seconds" ;;
    *) run_tests "$1" build-test "$drivers/$1.json" "${by_driver[@]}" ;;
    esac
}

# worker: does one run after another that nobody has begun.
worker() {
    local name
    for name in "${runs[@]}"; do
        if mkdir "$jobs/$name" 2>/dev/null; then
            run "$name"
        fi
    done
}

build build-test -Dtests=enabled -Dwerror=true
if [ "$quick" = yes ]; then
    run lavapipe
    add lavapipe
else
    build build-asan -Dtests=enabled -Dwerror=true -Dbuildtype=debugoptimized -Db_sanitize=address,undefined \
        -Db_lundef=false
    runs=(sanitizers lavapipe) # what takes longest comes first
    for name in swiftshader lavapipe22; do
        if [ -e "$drivers/$name.json" ]; then
            runs+=("$name")
        else
            echo "== not tested on $name: its driver could not be had"
            [ "$all" = no ] || failed=$((failed + 1))
        fi
    done
    if [ ! -e "$drivers/shim/libamdgpu_noop_drm_shim.so" ]; then
        echo "== not compiled for GPUs: mesa-drm-shim could not be had"
        [ "$all" = no ] || failed=$((failed + 1))
    fi
    if tools/setup.sh --has-libfuzzer; then
        runs+=(fuzzing)
    else
        echo "== not fuzzed: clang's libFuzzer could not be had"
        [ "$all" = no ] || failed=$((failed + 1))
    fi
    fuzz_seconds=10
    [ "$all" = no ] || fuzz_seconds=20
    # A test keeps little more than one core busy, so two runs go side by side, each a process group of its own.
    set -m
    echo "== testing: ${runs[*]}"
    worker &
    worker &
    wait
    for name in "${runs[@]}"; do
        add "$name"
    done
fi

echo "$SECONDS s in all"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
