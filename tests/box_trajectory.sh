#!/bin/bash
# What a policy's code gave in a training run is reproduced from the run's own log.   usage: box_trajectory.sh BUILD_DIR
set -u
cd "$(dirname "$0")/.." || exit 2
exe=$(realpath "${1:?build directory}")/codedance
[ -x "$exe" ] || { echo "SKIP: $exe is not built"; exit 77; }
command -v python3 >/dev/null || { echo "SKIP: no python3"; exit 77; }
"$exe" doctor >/dev/null 2>&1 || { echo "SKIP: codedance doctor finds no sandbox here"; exit 77; }
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
launcher=
. tests/common/tiny_run.sh
tiny_setup || { echo "not ok: setup"; exit 1; }
# A policy that has learned one call, whose output depends on the box's seed.
python3 - "$tmp" <<'END' || exit 1
import json, sys
with open(sys.argv[1] + "/sft/data.jsonl") as f, open(sys.argv[1] + "/sft/calls.jsonl", "w") as out:
    for row in map(json.loads, f):
        if row["messages"][0]["role"] != "user": continue
        row["messages"] = [row["messages"][0],
            {"role": "assistant", "content": "<think>Count.</think><code>\n```python\nprint(W)\n```\n</code>"},
            {"role": "tool", "content": "9"},
            {"role": "assistant", "content": "<think>I see.</think><answer>%s</answer>" % row["answer"]}]
        print(json.dumps(row), file=out)
END
tiny_train run --set train.stages='[sft,rl]' --set sft.data="$tmp/sft/calls.jsonl" --set sft.steps=40 --set rl.steps=1 \
    --set rl.record_every=1 --set rl.record_prompts=100 --set rollout.max_new_tokens=60 --set device.threads=1 \
    --set sandbox.preset="import random; W = random.random()" || exit 1
file=$tmp/run/rollouts/step_000001/trajectories.jsonl
config=$tmp/run/config.yaml
[ -f "$config" ] || { ls "$tmp/run"; echo "not ok: no config"; exit 1; }
python3 - "$file" "$tmp" <<'END' >"$tmp/lines" || exit 1
import json, sys
texts = set()
for n, row in enumerate(map(json.loads, open(sys.argv[1])), 1):
    ran = [t for t in row["turns"] if t.get("code") and t["tool"]["verdict"] not in ("", "INFRA")]
    assert bool(ran) == ("box_seed" in row), row.get("box_seed")
    if ran:
        texts.update(t["tool_text"] for t in ran if t["tool"]["ok"])
        parts = [p for m in row["sample"]["messages"] for p in m["content"] if isinstance(p, dict) and p.get("type") == "image"]
        print(n, len(ran), parts[0]["path"])
assert len(texts) > 3, texts
END
replayed=0
while read -r n turns image; do
    [ -f "$image" ] || image=$tmp/prompts/$image
    said=$("$exe" box --config "$config" --replay "$file" --trajectory "$n" --image "$image" 2>&1)
    [[ "$said" == "reproduced $turns turn"* ]] || { echo "not ok: line $n: $said"; exit 1; }
    replayed=$((replayed + 1))
    [ $replayed = 12 ] && break
done <"$tmp/lines"
[ $replayed -ge 3 ] || { echo "not ok: only $replayed trajectories ran code"; exit 1; }
read -r n turns image <"$tmp/lines"
[ -f "$image" ] || image=$tmp/prompts/$image
sed 's/"box_seed":"./"box_seed":"5/' "$file" >"$tmp/other.jsonl"
cmp -s "$file" "$tmp/other.jsonl" && { echo "not ok: no seed in the log"; exit 1; }
for n in $(cut -d' ' -f1 "$tmp/lines" | head -n 6); do
    "$exe" box --config "$config" --replay "$tmp/other.jsonl" --trajectory "$n" --image "$image" >>"$tmp/said" 2>&1
done
grep -q 'differs in line 1 of its text: recorded "0\.' "$tmp/said" || { cat "$tmp/said"; echo "not ok: another seed is not noticed"; exit 1; }
said=$("$exe" box --replay "$file" 2>&1) && { echo "not ok: no line asked for"; exit 1; }
[[ "$said" == *"--trajectory N"* ]] || { echo "not ok: $said"; exit 1; }
echo "ok: $replayed trajectories reproduced"
