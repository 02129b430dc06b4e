#!/usr/bin/env bash
# Installs what building and running vkmoe takes, and says what it does. Does nothing where all of it is there.
#
#   tools/setup.sh            Debian and Ubuntu: installs what is missing with apt-get (through sudo, if not root).
#                             Debian 12: Mesa's Vulkan drivers from bookworm-backports, which are several times as fast.
#                             Other systems: names the packages.
#   tools/setup.sh --check    only prints what is missing; status 1 if anything is
#   tools/setup.sh --tests    also installs clang with its libFuzzer, and fetches the software drivers that tools/test.sh
#                             runs on, and what lets GPUs' drivers compile without a GPU, into ${XDG_CACHE_HOME:-~/.cache}/vkmoe/drivers
#   tools/setup.sh --has-libfuzzer   does and prints nothing: the status says whether clang and its libFuzzer are there

# apt-get expands the $(...) of its formats itself.
# shellcheck disable=SC2016
set -euo pipefail

packages=(meson ninja-build gcc g++ libc6-dev pkg-config glslang-tools libvulkan-dev libvulkan1 libjansson-dev libxxhash-dev
          libcriterion-dev make libpng-dev vulkan-validationlayers mesa-vulkan-drivers)
drivers=${XDG_CACHE_HOME:-$HOME/.cache}/vkmoe/drivers
check=no tests=no lists_fresh=no

say() { echo "setup: $*"; }
complain() { echo "setup: $*" >&2; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        complain "this needs root: run '$*' as root, or install sudo"
        return 1
    fi
}

update_lists() {
    [ "$lists_fresh" = yes ] && return
    say "reading the package lists"
    as_root apt-get -qq update || complain "some package lists could not be read; going on with what is there"
    lists_fresh=yes
}

install_packages() {
    say "installing $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@" >/dev/null
}

# Version of an installed package, or nothing.
installed() {
    dpkg-query -W -f='${db:Status-Abbrev} ${Version}\n' "$1" 2>/dev/null | sed -n '1s/^.i *//p'
}

missing_packages() {
    local package
    for package in "${packages[@]}"; do
        [ -n "$(installed "$package")" ] || echo "$package"
    done
}

# Debian 12's own Mesa counts as missing: 22.3 where backports have 25.0.
mesa_is_old() {
    local version
    version=$(installed mesa-vulkan-drivers)
    [ "$codename" = bookworm ] && { [ -z "$version" ] || dpkg --compare-versions "$version" lt 24; }
}

backports_configured() {
    apt-get indextargets --format '$(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
        grep -qx 'bookworm-backports main'
}

# Adds bookworm-backports from the place, and with the key, that the system takes bookworm from.
add_backports() {
    local entry uri source key list=/etc/apt/sources.list.d/vkmoe-backports.sources
    entry=$(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI) $(SOURCESENTRY)' \
        'Created-By: Packages' | grep '^bookworm main ' | sed -n 1p)
    read -r _ _ uri source <<<"$entry"
    [ -n "$uri" ] || return 1
    key=$(sed -nE 's/^[^#]*[Ss]igned-[Bb]y[:=] *(\/[^] ]+).*/\1/p' "${source%:*}" | sed -n 1p)
    say "adding bookworm-backports from the system's own source, in $list"
    {
        printf 'Types: deb\nURIs: %s\nSuites: bookworm-backports\nComponents: main\n' "$uri"
        [ -z "$key" ] || printf 'Signed-By: %s\n' "$key"
    } | as_root tee "$list" >/dev/null
    as_root apt-get -qq update || true
    if apt-cache madison mesa-vulkan-drivers | grep -q bookworm-backports/; then
        return 0
    fi
    as_root rm -f "$list"
    as_root apt-get -qq update || true
    return 1
}

install_mesa() {
    update_lists
    if { backports_configured || add_backports; } &&
        install_packages -t bookworm-backports mesa-vulkan-drivers; then
        return
    fi
    complain "bookworm-backports cannot be had; Debian 12's own Mesa works, but its software driver is slow"
    [ -n "$(installed mesa-vulkan-drivers)" ] || install_packages mesa-vulkan-drivers
}

# unpack PACKAGE DIRECTORY: a package's files without installing it.
unpack() {
    local archive
    update_lists
    say "fetching $1 (unpacked below $drivers, not installed)"
    (cd "$2" && apt-get -qq download "$1" 2>/dev/null) || return 1
    archive=$(find "$2" -name '*.deb' | sed -n 1p)
    [ -n "$archive" ] && dpkg -x "$archive" "$2/files"
}

# library NAME PACKAGE LIBRARY: leaves $drivers/NAME/LIBRARY.
library() {
    local name=$1 package=$2 library=$3 work found status=0
    [ ! -e "$drivers/$name/$library" ] || return 0
    mkdir -p "$drivers/$name"
    work=$(mktemp -d)
    if unpack "$package" "$work" && found=$(find "$work/files" -name "$library" | sed -n 1p) && [ -n "$found" ]; then
        mv "$found" "$drivers/$name/$library"
    else
        complain "$package cannot be had here; the tests do without it"
        rmdir "$drivers/$name"
        status=1
    fi
    rm -rf "$work"
    return $status
}

# driver NAME PACKAGE LIBRARY API_VERSION: leaves $drivers/NAME.json and the library beside it.
driver() {
    library "$1" "$2" "$3" || return 0
    printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "%s"}}\n' \
        "$drivers/$1/$3" "$4" >"$drivers/$1.json"
}

# What tests/compilers.sh puts below Mesa's driver for AMD.
test_shim() {
    library shim mesa-drm-shim libamdgpu_noop_drm_shim.so || true
}

# The packages' own ICD files state older Vulkan versions, for which the loader would not offer 1.3.
test_drivers() {
    local own
    driver swiftshader chromium-common libvk_swiftshader.so 1.3.0
    [ "$codename" = bookworm ] || return 0
    own=$(apt-cache madison mesa-vulkan-drivers | awk -F' *[|] *' '$3 !~ /backports/ && !n++ { print $2 }')
    driver lavapipe22 "mesa-vulkan-drivers${own:+=$own}" libvulkan_lvp.so 1.3.230
    if [ -e "$drivers/lavapipe22.json" ] &&
        ldd "$drivers/lavapipe22/libvulkan_lvp.so" | grep -q 'libLLVM.*not found'; then
        update_lists
        install_packages libllvm15
    fi
}

has_libfuzzer() {
    command -v clang >/dev/null && clang -x c -fsanitize=fuzzer,address,undefined -o /dev/null - 2>/dev/null <<'END'
int LLVMFuzzerTestOneInput(const unsigned char *data, unsigned long bytes) { return bytes > 9 && *data; }
END
}

# Some releases have the library in a package of its own, which is named after clang's version.
install_libfuzzer() {
    local version
    if has_libfuzzer; then
        return
    fi
    update_lists
    command -v clang >/dev/null || install_packages clang || return 1
    version=$(clang -dumpversion | sed 's/[^0-9].*//')
    has_libfuzzer || { install_packages "libclang-rt-$version-dev" && has_libfuzzer; }
}

check_versions() {
    local version
    version=$(meson --version)
    case $version in
    0.*) complain "meson $version is too old: 1.0 is needed; install a newer one, for example with pipx"; return 1 ;;
    esac
    pkg-config --atleast-version=1.3.239 vulkan ||
        { complain "the Vulkan headers are too old: 1.3.239 is needed; install newer ones"; return 1; }
}

debian() {
    local missing
    mapfile -t missing < <(missing_packages)
    if mesa_is_old; then
        missing=("${missing[@]/mesa-vulkan-drivers/}" "mesa-vulkan-drivers (from bookworm-backports)")
    fi
    if [ "$check" = yes ]; then
        for package in "${missing[@]}"; do
            [ -z "$package" ] || echo "missing: $package"
        done
        [ ${#missing[@]} -eq 0 ]
        return
    fi
    if mesa_is_old; then
        install_mesa
        mapfile -t missing < <(missing_packages)
    fi
    if [ ${#missing[@]} -gt 0 ]; then
        update_lists
        install_packages "${missing[@]}"
    fi
    if [ "$tests" = yes ]; then
        test_drivers
        test_shim
        install_libfuzzer || complain "clang's libFuzzer cannot be had here; the tests do without it"
    fi
    check_versions
}

other_system() {
    local tool module missing=()
    for tool in meson ninja make cc pkg-config glslangValidator; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    for module in vulkan jansson libxxhash criterion libpng; do
        pkg-config --exists "$module" 2>/dev/null || missing+=("$module (development files)")
    done
    if [ ${#missing[@]} -eq 0 ]; then
        [ "$check" = yes ] || check_versions
        return
    fi
    printf 'missing: %s\n' "${missing[@]}"
    cat <<'END'
Install them with your package manager, besides a Vulkan driver for your GPU (or Mesa's software driver):
  Fedora    meson ninja-build make gcc-c++ pkgconf glslang vulkan-headers vulkan-loader-devel jansson-devel xxhash-devel
            criterion-devel libpng-devel vulkan-validation-layers mesa-vulkan-drivers clang compiler-rt
  Arch      meson ninja make gcc pkgconf glslang vulkan-headers vulkan-icd-loader jansson xxhash criterion
            libpng vulkan-validation-layers vulkan-swrast clang compiler-rt
  openSUSE  meson ninja make gcc-c++ pkgconf glslang-devel vulkan-headers vulkan-devel libjansson-devel xxhash-devel
            criterion-devel libpng16-devel vulkan-validationlayers libvulkan_lvp clang
Criterion, make, libpng, the validation layers and clang (its libFuzzer) are for the tests alone.
END
    return 1
}

while [ $# -gt 0 ]; do
    case $1 in
    --check) check=yes ;;
    --tests) tests=yes ;;
    --has-libfuzzer) has_libfuzzer; exit ;;
    --help | -h) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) complain "no flag $1; there are --check, --tests and --has-libfuzzer"; exit 2 ;;
    esac
    shift
done

ID='' ID_LIKE='' VERSION_CODENAME=''
# shellcheck disable=SC1091
[ ! -r /etc/os-release ] || . /etc/os-release
codename=$VERSION_CODENAME
[ "$ID" = debian ] || [ "$codename" != bookworm ] || codename="$ID-bookworm"

case " $ID $ID_LIKE " in
*" debian "* | *" ubuntu "*) debian ;;
*) other_system ;;
esac
