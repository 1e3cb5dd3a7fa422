#!/usr/bin/env bash
# What needs a GPU, in less than nine minutes: a build for this GPU, the tests that use it, bench_cuda beside
# gpu_peer.py (PyTorch) group by group, and compute-sanitizer. A step that fails is in the table; the rest goes on.
#   benchmarks/gpu.sh [--emulated] [OUT_DIR]
# OUT_DIR (BUILD/figures) gets figures.csv, table.md, both complete after every step, and log.txt.
# --emulated: tiny sizes on the stand-in of tests/cuda_emu and PyTorch on the CPU, which tries this script.
# Environment: BUILD  the build folder (build/gpu; with --emulated build/release, configured as it is)
#              PREFIX a folder into which library packages were unpacked (dpkg -x), if they are not installed
#              PYTHON with PyTorch (python3)      LIMIT seconds for all (530)
# Exit: 0, 1 when a step failed, 77 without a GPU.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
emulated=
case "${1:-}" in
-h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
--emulated) emulated=1; shift ;;
esac
python=${PYTHON:-python3}
build=${BUILD:-$root/build/$([ "$emulated" ] && echo release || echo gpu)}
mkdir -p "$build"
build=$(cd "$build" && pwd)
mkdir -p "${1:-$build/figures}"
out=$(cd "${1:-$build/figures}" && pwd)
log=$out/log.txt
left() { echo $((${LIMIT:-$([ "$emulated" ] && echo 3000 || echo 530)} - SECONDS)); }

if [ "$emulated" ]; then
    gpu="emulated" driver="-" cuda="-" jobs=2 slow=5
    configure=() device=(--plugin "$build/cuda_emu/codedance_cuda.so") some=('rmsnorm_fwd*') plugin=cuda_emu
    ours=("${device[@]}" --tiny) peer=(--device cpu --tiny --no-compile)
else
    smi=$(nvidia-smi --query-gpu=name,driver_version,compute_cap --format=csv,noheader 2>/dev/null) ||
        { echo "gpu.sh: SKIP: no NVIDIA GPU on this machine (nvidia-smi finds none)"; exit 77; }
    IFS=, read -r gpu driver capability <<<"${smi//, /,}"
    PATH=$PATH:/usr/local/cuda/bin # where NVIDIA's installer leaves its tools
    cuda=$({ nvcc --version || true; } 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p')
    arch=${capability/./}-real jobs=$(nproc) slow=1
    if [ "$arch" = 90-real ]; then arch=90a-real; fi # wgmma and TMA are only in the a form
    configure=(-DCMAKE_BUILD_TYPE=Release -DWITH_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=$arch" -DWITH_MPI=OFF -DWITH_PYTHON=OFF)
    device=(--gpu) some=() plugin=codedance_cuda ours=() peer=()
fi
torch=$("$python" -c 'import importlib.metadata as m; print(m.version("torch"))' 2>/dev/null || echo none)

# The packages' .pc files say /usr: copies say where the files are. CMAKE_PREFIX_PATH would show it the originals.
if [ "${PREFIX:-}" ]; then
    PREFIX=$(cd "$PREFIX" && pwd)
    mkdir -p "$build/pkgconfig"
    while read -r pc; do
        sed -E "s#(=|-[IL])/usr#\1$PREFIX/usr#g" "$pc" >"$build/pkgconfig/${pc##*/}"
    done < <(find "$PREFIX" -name '*.pc')
    libraries=$(find "$PREFIX" -name '*.so*' -printf '%h\n' | sort -u | paste -sd:)
    export PKG_CONFIG_PATH=$build/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
    export CMAKE_INCLUDE_PATH=$PREFIX/usr/include${CMAKE_INCLUDE_PATH:+:$CMAKE_INCLUDE_PATH}
    export CMAKE_LIBRARY_PATH=$libraries${CMAKE_LIBRARY_PATH:+:$CMAKE_LIBRARY_PATH}
    export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export PATH=$PATH:$PREFIX/usr/bin
fi

steps='' failed=0
write_table() {
    {
        printf '# GPU figures\n\n%s; %s; driver %s; CUDA %s; torch %s\n\n' "$(date -u '+%Y-%m-%d %H:%M UTC')" "$gpu" "$driver" \
            "${cuda:-unknown}" "$torch"
        "$python" "$root/benchmarks/gpu_peer.py" --table "$out/figures.csv" || echo "(no figures)"
        printf '\n| step | result | seconds |\n|---|---|---|\n%s' "$steps"
    } >"$out/table.tmp" 2>>"$log"
    mv "$out/table.tmp" "$out/table.md"
}

# note NAME RESULT SECONDS
note() {
    steps+="| $1 | ${2//|//} | $3 |"$'\n'
    printf '%5ds  %s: %s\n' "$SECONDS" "$1" "$2"
}

# step NAME LIMIT FILE COMMAND...: at most LIMIT seconds; its output goes to FILE, or to the log if that is -.
step() {
    local name=$1 limit=$(($2 * slow)) file=$3 began=$SECONDS rc=0 result more
    shift 3
    if [ "$file" = - ]; then file=$out/output.tmp; fi
    more=$(left)
    if [ "$more" -lt "$limit" ]; then limit=$more; fi
    if [ "$limit" -lt 3 ]; then
        note "$name" "left out: no time" 0
        return 1
    fi
    printf '\n==== %s: %s\n' "$name" "$*" >>"$log"
    (cd "$build" && exec timeout -k 3 "$limit" "$@") >"$file" 2>"$out/errors.tmp" </dev/null || rc=$?
    cat "$file" "$out/errors.tmp" >>"$log"
    case $rc in
    0) result=ok ;;
    77) result="skipped" ;;
    124 | 137) result="stopped after $limit s" ;;
    *) result="failed ($rc): $(cat "$file" "$out/errors.tmp" | grep -iE 'error:|fail|broken|cannot|not found' | head -n 1 | cut -c1-120)" ;;
    esac
    rm -f "$out/errors.tmp" "$out/output.tmp"
    if [ "$rc" != 0 ] && [ "$rc" != 77 ]; then failed=$((failed + 1)); fi
    note "$name" "$result" $((SECONDS - began))
    [ "$rc" = 0 ]
}

# figures GROUP SECONDS SIDE COMMAND...
figures() {
    local group=$1 limit=$2 side=$3 ok=0
    shift 3
    step "$group, $side" "$limit" "$out/group.tmp" "$@" --groups "$group" --seconds $((limit > 30 ? limit - 15 : limit / 2)) || ok=1
    if [ -f "$out/group.tmp" ]; then sed -n "s/^$group,/$side,&/p" "$out/group.tmp" >>"$out/figures.csv"; fi
    rm -f "$out/group.tmp"
    return $ok
}

: >"$log"
echo side,group,name,shape,ms,p10,p90,tflops,gbs >"$out/figures.csv"
generator=()
if [ ! -f "$build/CMakeCache.txt" ] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
step configure 60 - cmake -S "$root" -B "$build" "${generator[@]}" "${configure[@]}" || true
step build 240 - cmake --build "$build" -j "$jobs" --target "$plugin" bench_cuda || true
tests=(test_cuda test_cuda_linear test_cuda_attn test_model_bits)
step "build of the tests" 180 - cmake --build "$build" -j "$jobs" --target "${tests[@]}" || true
write_table
if [ -x "$build/test_cuda" ] && [ -x "$build/test_model_bits" ]; then
    step test_cuda 90 - ./test_cuda "${device[@]}" "${some[@]}" || true
    step test_cuda_linear 40 - ./test_cuda_linear "${device[@]}" || true
    step test_cuda_attn 40 - ./test_cuda_attn "${device[@]}" || true
    step "test_model_bits, bf16" 40 - ./test_model_bits "${device[@]}" || true
    step "test_model_bits, fp32" 40 - ./test_model_bits "${device[@]}" --fp32 || true
    write_table
fi

# What is left is shared among the groups still to come, two programs each; some is kept for the sanitizer.
groups=(ceiling norms optimizer decode gemm attention head)
for i in "${!groups[@]}"; do
    for side in ours peer; do
        share=$((($(left) - 80) / (2 * (${#groups[@]} - i))))
        share=$((share > 90 ? 90 : share < 25 ? 25 : share))
        if [ $side = ours ]; then
            figures "${groups[i]}" $share ours ./bench_cuda "${ours[@]}" || true
        else
            figures "${groups[i]}" $share peer "$python" "$root/benchmarks/gpu_peer.py" "${peer[@]}" || true
        fi
    done
    write_table
done

if [ "$emulated" ] || ! command -v compute-sanitizer >/dev/null; then
    note compute-sanitizer "skipped: no GPU, or not installed" 0
elif [ -x "$build/test_cuda" ]; then
    for tool in memcheck racecheck; do
        for op in rmsnorm_bwd linear_fwd attn_fwd attn_bwd logprob_fwd; do
            step "$tool, $op" 25 - compute-sanitizer --tool $tool --error-exitcode 1 ./test_cuda "$op*" || true
        done
    done
fi
write_table
cat "$out/table.md"
[ $failed = 0 ]
