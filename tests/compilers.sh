#!/bin/sh
# The kernels in the hands of GPUs' compilers, on a machine without a GPU: Mesa's drivers on a kernel interface that does nothing
# (Debian's mesa-drm-shim; tools/setup.sh --tests fetches it). All is compiled, recorded and submitted as for the device, under the validation
# layers. Nothing runs, so every operation is wrong: the self-test has to say so and go on, and bench has to refuse.
# usage: compilers.sh VKMOE
set -eu
vkmoe=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
places="${XDG_CACHE_HOME:-$HOME/.cache}/vkmoe/drivers/shim /usr/lib/*/ /usr/lib64/"
export XDG_CACHE_HOME="$work" MESA_SHADER_CACHE_DISABLE=true NVK_I_WANT_A_BROKEN_VULKAN_DRIVER=1
i=0
while [ $((i += 1)) -le 300 ]; do echo "line $i: the quick brown fox jumps over the lazy dog"; done >"$work/text"

# on DRIVER SHIM COMMAND...
on() {
    driver=$1 preload=$2
    shift 2
    VK_DRIVER_FILES=$driver VK_ICD_FILENAMES=$driver LD_PRELOAD=$preload "$vkmoe" "$@" >"$work/out" 2>"$work/err"
}

told() {
    echo "$1" >&2
    tail -n 5 "$work/out" "$work/err" >&2
    failed=$((failed + 1))
}

passed=0 failed=0
# check DRIVER SHIM: where both are here
check() {
    icd=$(find /usr/share/vulkan /usr/local/share/vulkan -name "$1" 2>/dev/null | sed -n 1p)
    # shellcheck disable=SC2086 # a list, with patterns
    shim=$(find $places -maxdepth 1 -name "$2" 2>/dev/null | sed -n 1p)
    [ -n "$icd" ] && [ -n "$shim" ] || return 0
    status=0
    on "$icd" "$shim" selftest --validate || status=$?
    if [ "$status" -ne 1 ] || ! grep -Eq '^[0-9]+ of [0-9]+ operations are wrong' "$work/out" || grep -q 'validation:' "$work/err"; then
        told "$1: the self-test ended with status $status"
    else
        passed=$((passed + 1))
    fi
    status=0
    on "$icd" "$shim" bench --only ceilings --seconds 0.05 || status=$?
    if [ "$status" -ne 1 ] || ! grep -q 'figures would mean nothing' "$work/err"; then
        told "$1: bench ended with status $status where nothing is computed"
    else
        passed=$((passed + 1))
    fi
    for precision in f32 bf16; do
        if on "$icd" "$shim" train --data "$work/text" --preset demo --steps 2 --precision $precision --out "$work/$1-$precision" --validate; then
            passed=$((passed + 1))
        else
            told "$1: training in $precision failed"
        fi
    done
}

export AMDGPU_GPU_ID=navi31 NOUVEAU_CHIPSET=172
check 'radeon_icd*.json' libamdgpu_noop_drm_shim.so
check 'nouveau_icd*.json' libnouveau_noop_drm_shim.so
[ $((passed + failed)) -gt 0 ] || exit 77
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
