#!/bin/bash
# The same code with the same seed prints the same bytes in another process: clocks, generators, addresses, directories.
set -u
box="$1/codedance box" here=tests/honest work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

said() { sed 's/"wall_ms".*//' "$1"; } # what follows are measurements
for python in "" "--python /usr/bin/python3"; do
    run="$box --tier T1 $python --interactive $here/repeat.py"
    $run --seed 5 >"$work/1" 2>"$work/err" || { cat "$work/err"; echo "SKIP: no boxes here"; exit 77; }
    $run --seed 5 >"$work/2"
    $run --seed 6 >"$work/3"
    said "$work/1" | grep -o '"verdict":"[A-Z_]*"' | tr '\n' ' ' >"$work/verdicts"
    ok='"verdict":"OK" '
    [ "$(cat "$work/verdicts")" = "$ok$ok$ok$ok$ok$ok\"verdict\":\"PY_ERROR\" $ok" ] || { cat "$work/1"; fail "$(cat "$work/verdicts")"; }
    diff <(said "$work/1") <(said "$work/2") || fail "two runs differ"
    for turn in 2 5 8; do
        [ "$(said "$work/1" | sed -n ${turn}p)" != "$(said "$work/3" | sed -n ${turn}p)" ] || fail "turn $turn does not depend on the seed"
    done
    grep -q '"stdout":"1767225600.001 17672256000' "$work/1" || fail "the clock does not stand still"
done
echo ok
