#!/bin/bash
# The shape of the tree: who may include whom, one home per third-party library, file sizes, headers that compile alone.
# usage: check_tree.sh [BUILD_DIR]      prints every violation; exit 1 if there is one
set -u
cd "$(dirname "$0")/.." || exit 2
bad=0
fail() { echo "not ok: $*"; bad=1; }
layers="core kernels data sandbox reward rollout rl launch"

# ---- layers: a folder includes only what the picture in the README allows (its own folder always)
allow() { # folder, folders it may include besides itself
    local f inc
    while IFS= read -r f; do
        for inc in $(sed -n 's/^[[:space:]]*#[[:space:]]*include "\([a-z_]*\)\/.*/\1/p' "$f" | sort -u); do
            case " $1 $2 " in *" $inc "*) ;; *) fail "$f: $1 may not include $inc/" ;; esac
        done
    done < <(find "$1" -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null)
}
allow core ""
allow kernels "core"
allow data "core"
allow sandbox "core"
allow reward "core data sandbox"
allow rollout "core data sandbox"
allow rl "core data sandbox reward rollout"
allow launch "core kernels data sandbox reward rollout rl"

# Every quoted include starts at the root, so that the rule above sees it.
while IFS= read -r hit; do fail "$hit: includes are root-relative (\"folder/file.h\")"; done < <(
    grep -rnE '^[[:space:]]*#[[:space:]]*include "[^/"]*"' $layers tests benchmarks --include='*.[ch]' --include='*.cu' --include='*.cuh' 2>/dev/null |
        grep -v 'report_page\.inc' | cut -d: -f1,2)

# ---- one home per library
only() { # regex of <headers>, then path patterns that may use them
    local re=$1 f p ok
    shift
    for f in $(grep -rlE "^[[:space:]]*#[[:space:]]*include <($re)" $layers 2>/dev/null); do
        ok=0
        for p in "$@"; do case "$f" in $p) ok=1 ;; esac; done
        [ $ok = 1 ] || fail "$f: <$re> belongs in $*"
    done
}
only 'cuda|cublas|nccl' 'kernels/cuda/*'
only 'mpi\.h' 'core/comm_mpi.c'
only 'yaml\.h' 'core/config.c'
only 'hdf5|H5' 'data/shard*'
only 'zstd\.h' 'data/*'
only 'png\.h' 'data/image_png.c'
only 'libdeflate\.h' 'data/image_png_quick.c'
only 'turbojpeg\.h|jpeglib\.h' 'data/image_jpeg.c'
only 'webp/.*\.h' 'data/image_webp.c'
only 'gif_lib\.h' 'data/image_gif.c'
only 'Python\.h' 'sandbox/zygote/*'
only 'curl/' 'reward/judge.c'
only 'sys/mount|linux/seccomp|linux/landlock|sys/ptrace' 'sandbox/*'
only 'immintrin\.h|arm_neon\.h' 'kernels/cpu/*' 'kernels/cpu/isa/*' 'data/image_rows.c'
only 'cmocka\.h' 'tests/*'

# ---- sizes: 400 lines is normal, 800 the limit; headers 150
while IFS= read -r f; do
    n=$(wc -l <"$f")
    case "$f" in
    *.h) [ "$n" -le 150 ] || fail "$f: $n lines, a header has at most 150" ;;
    *) if [ "$n" -gt 800 ]; then fail "$f: $n lines, the limit is 800"; elif [ "$n" -gt 400 ]; then echo "# $f: $n lines (more than 400)"; fi ;;
    esac
done < <(git ls-files -co --exclude-standard -- '*.c' '*.h' '*.cu' '*.cuh' '*.py' '*.sh' 2>/dev/null || find $layers tests -name '*.[ch]')

# ---- what tests are compared with stays small
n=$(find tests/fixtures -type f -not -path '*/__pycache__/*' -exec cat {} + | wc -c)
[ "$n" -le $((8 << 20)) ] || fail "tests/fixtures: $n bytes, the limit is 8 MiB"

# ---- a header compiles alone
cc=${CC:-gcc}
command -v "$cc" >/dev/null || { echo "SKIP: no $cc"; exit 77; }
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
for h in $(find $layers -name '*.h'); do
    case "$h" in kernels/cuda/*) continue ;; esac # need the CUDA toolkit
    flags=
    case "$h" in kernels/cpu/isa/* | kernels/vmath.h | kernels/formulas.h) flags="-DISA=generic -DISA_generic=1" ;; sandbox/*) flags=$(pkg-config --cflags python3-embed 2>/dev/null) ;;
    data/*) flags=$(pkg-config --cflags hdf5-serial 2>/dev/null || pkg-config --cflags hdf5 2>/dev/null) ;; esac
    printf '#include "%s"\n#include "%s"\nint translation_unit;\n' "$h" "$h" >"$tmp/h.c"
    # shellcheck disable=SC2086
    "$cc" -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wno-unused-function -I. $flags -fsyntax-only "$tmp/h.c" 2>"$tmp/err" ||
        fail "$h does not compile alone: $(head -n 2 "$tmp/err" | tr '\n' ' ')"
done

# ---- text that must not be committed
while IFS= read -r hit; do fail "$hit"; done < <(
    grep -rnE 'TODO|FIXME|XXX|HACK|not implemented|for now|placeholder' $layers tests benchmarks configs 2>/dev/null --include='*.[ch]' --include='*.cu' --include='*.yaml' |
        grep -vE 'XXXXXX|check_tree')
[ $bad = 0 ] && echo "ok: layers, homes, sizes, headers"
exit $bad
