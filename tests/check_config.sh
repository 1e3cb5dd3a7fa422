#!/bin/bash
# configs/default.yaml is exactly what the program's tables say, and every other config in configs/ loads.
# usage: check_config.sh BUILD_DIR     (to renew: BUILD_DIR/codedance config --defaults > configs/default.yaml)
set -u
cd "$(dirname "$0")/.." || exit 2
exe=${1:?build directory}/codedance
[ -x "$exe" ] || { echo "SKIP: $exe is not built"; exit 77; }
bad=0
"$exe" config --defaults | diff -u configs/default.yaml - || { echo "not ok: configs/default.yaml differs; renew it with: codedance config --defaults"; bad=1; }
for f in configs/*.yaml; do
    "$exe" config "$f" >/dev/null || { echo "not ok: $f"; bad=1; }
done
# What the program prints, it reads back to the same.
tmp=$(mktemp --suffix=.yaml) || exit 2
trap 'rm -f "$tmp"' EXIT
"$exe" config --set rl.steps=7 --set 'run.name="a: b"' >"$tmp" && "$exe" config "$tmp" | diff - "$tmp" || { echo "not ok: the dump does not read back"; bad=1; }
"$exe" config --set rl.stepz=7 2>&1 | grep -q 'unknown key rl.stepz; did you mean rl.steps?' || { echo "not ok: no suggestion for rl.stepz"; bad=1; }
"$exe" config --set rl.stepz=7 >/dev/null 2>&1
[ $? -eq 1 ] || { echo "not ok: a wrong config must exit with 1"; bad=1; }
"$exe" config --sett rl.steps=7 >/dev/null 2>&1
[ $? -eq 2 ] || { echo "not ok: a wrong option must exit with 2"; bad=1; }
[ $bad = 0 ] && echo "ok: configs"
exit $bad
