#!/bin/bash
# `codedance reward` on rows worked out by hand, and what it says about rows it can't read. usage: reward_cli.sh BUILD_DIR
set -u
exe=$(realpath "${1:?build directory}")/codedance
[ -x "$exe" ] || { echo "SKIP: $exe is not built"; exit 77; }
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
bad=0
cat >"$tmp/rows.jsonl" <<'END'
{"group": 1, "acc": 1, "format_ok": true, "calls": ["ok", "fail"]}
{"group": 1, "acc": 0, "format_ok": true, "calls": []}
{"group": "easy", "acc": 1, "format_ok": false, "calls": ["fail", "ok"], "domain": "math", "x_note": 5}
END
# mu 0.5: d = 0.3, the tool term 0.3 * 1.5 * 1/2; std of {1.225, 0} is 0.8662. The lone math row: score 1.2 - 0.4 = 0.8.
cat >"$tmp/want" <<'END'
{"group":1,"acc":1,"score":1,"d":0.3,"tool_term":0.225,"reward":1.225,"adv_seq":0.707106,"adv_turn":[-0.02,-0.1]}
{"group":1,"acc":0,"score":0,"d":0.3,"tool_term":0,"reward":0,"adv_seq":-0.707106,"adv_turn":[]}
{"group":"easy","acc":1,"score":0.8,"d":-0.1168273,"tool_term":-0.1168273,"reward":0.6831727,"adv_seq":0,"adv_turn":[-0.1,0]}
END
"$exe" reward --bat published "$tmp/rows.jsonl" | diff "$tmp/want" - && echo "ok: published" || { echo "not ok: published"; bad=1; }
# fixed: mu of the lone row is its accuracy 1, d = -0.182, and the failed call doubles the price: 2 (1 + 1) d.
"$exe" reward --bat fixed "$tmp/rows.jsonl" | tail -n 1 | grep -q '"d":-0.1820138,"tool_term":-0.728055' && echo "ok: fixed" ||
    { echo "not ok: fixed"; bad=1; }
"$exe" reward --bat none "$tmp/rows.jsonl" | head -n 1 | grep -q '"tool_term":0,"reward":1,' && echo "ok: none" || { echo "not ok: none"; bad=1; }

refuses() { # WHAT ROW
    echo "$2" >"$tmp/bad.jsonl"
    local said
    said=$("$exe" reward "$tmp/bad.jsonl" 2>&1) && { echo "not ok: accepts $1"; bad=1; return; }
    [[ $said == *bad.jsonl:1* ]] && echo "ok: refuses $1" || { echo "not ok: $1: no place in: $said"; bad=1; }
}
refuses "a missing acc" '{"group": 1, "format_ok": true, "calls": []}'
refuses "acc out of range" '{"group": 1, "acc": 2, "format_ok": true, "calls": []}'
refuses "a strange call" '{"group": 1, "acc": 1, "format_ok": true, "calls": ["maybe"]}'
refuses "no group" '{"acc": 1, "format_ok": true, "calls": []}'
refuses "an unknown field" '{"group": 1, "acc": 1, "format_ok": true, "calls": [], "callz": 1}'
refuses "broken JSON" '{"group": 1,'
exit $bad
