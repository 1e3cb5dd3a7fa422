#!/bin/bash
# Training under mpirun with 2 ranks gives the weights of one process, bit for bit. usage: mpi_train.sh BUILD_DIR
set -u
cd "$(dirname "$0")/.." || exit 2
exe=$(realpath "${1:?build directory}")/codedance
[ -x "$exe" ] || { echo "SKIP: $exe is not built"; exit 77; }
command -v mpirun >/dev/null || { echo "SKIP: no mpirun"; exit 77; }
ldd "$exe" | grep -q libmpi || { echo "SKIP: built without MPI"; exit 77; }
"$exe" doctor >/dev/null 2>&1 || { echo "SKIP: codedance doctor finds no sandbox here"; exit 77; }
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
. tests/common/tiny_run.sh
launcher=
tiny_setup || { echo "not ok: setup"; exit 1; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0 # Open MPI itself leaks
tiny_train one || exit 1
launcher="mpirun -np 2 --oversubscribe --bind-to none"
tiny_train two --set device.threads=1 || exit 1
bad=0
[ "$(weights one)" = "$(weights two)" ] && echo "ok: 2 ranks = 1 process" || { echo "not ok: the weights differ"; bad=1; }
for f in "$tmp"/one/eval/*.json; do
    cmp "$f" "$tmp/two/eval/$(basename "$f")" || { echo "not ok: evaluation $(basename "$f") differs"; bad=1; }
done
# A checkpoint of two ranks is continued by one.
for later in "$tmp"/two/checkpoints/step_*; do [[ $(basename "$later") > step_00000006 ]] && rm -r "$later"; done
launcher=
tiny_train two --resume || exit 1
[ "$(weights one)" = "$(weights two)" ] && echo "ok: one process continues what two ranks began" || { echo "not ok: continued weights differ"; bad=1; }
exit $bad
