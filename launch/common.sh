# Shared by launch/demo and launch/test: install what is missing, build once. Sourced, not run.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build/release
started=$SECONDS

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'; else bold='' dim='' green='' red='' plain=''; fi
say() { printf '%s\n' "${bold}$*${plain}"; }
ok() { printf '  %s✓%s %s\n' "$green" "$plain" "$*"; }
die() { printf '%s%s%s\n' "$red" "$*" "$plain" >&2; exit 1; }
clock() { local s=$1; if [ "$s" -ge 60 ]; then printf '%dm%02ds' $((s / 60)) $((s % 60)); else printf '%ds' "$s"; fi; }

packages_build="build-essential cmake ninja-build pkg-config libyaml-dev libzstd-dev libhdf5-dev libpng-dev
    libjpeg62-turbo-dev libwebp-dev libgif-dev libdeflate-dev libopenmpi-dev openmpi-bin libpython3-dev libexpat1-dev
    zlib1g-dev"
packages_run="python3-numpy python3-pil"
packages_test="libcmocka-dev python3-h5py python3-matplotlib chromium python3-venv python3-opencv python3-scipy python3-sympy"

# install_packages NAME...: Debian packages that are not there yet. Says what to run when it may not install.
install_packages() {
    local missing=() p
    command -v dpkg-query >/dev/null || { say "not a Debian system: install by hand what CMake reports as missing"; return 0; }
    for p in "$@"; do
        dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
    done
    [ ${#missing[@]} -gt 0 ] || { ok "packages: all there"; return 0; }
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "packages are missing and this is not root; run: apt-get install --no-install-recommends ${missing[*]}"
        as_root=(sudo)
    fi
    local t=$SECONDS log
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    { "${as_root[@]}" apt-get update -q && "${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"; } \
        >"$log" 2>&1 </dev/null || { tail -n 15 "$log" >&2; die "installing packages failed (full log: $log)"; }
    rm -f "$log"
    ok "packages: installed ${#missing[@]} in $(clock $((SECONDS - t)))"
}

# build_release [cmake options]: configures and builds everything the options ask for.
build_release() {
    local t=$SECONDS log=$root/build/build.log
    mkdir -p "$root/build"
    { (cd "$root" && cmake --preset release "$@") && cmake --build "$build"; } >"$log" 2>&1 </dev/null ||
        { grep -E 'error|Error|FAILED|not found' "$log" | head -n 20 >&2; die "the build failed (full log: $log)"; }
    ok "built in $(clock $((SECONDS - t)))"
}
