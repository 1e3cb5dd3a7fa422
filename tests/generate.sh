#!/bin/bash
# `codedance generate` on a random model: pictures of any size and mode, equal trajectories whatever the batch, refusals
# that say what to do.   usage: generate.sh BUILD_DIR
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
exe=$(realpath "${1:?build directory}")/codedance
[ -x "$exe" ] || { echo "SKIP: $exe is not built"; exit 77; }
python=/usr/bin/python3
$python -c 'import numpy, PIL' 2>/dev/null || { echo "SKIP: no python3 with numpy and PIL"; exit 77; }
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
fail() { echo "not ok: $*"; exit 1; }

"$exe" data synth --kind sft --n 60 --out sft >/dev/null && "$exe" data tokenizer sft/data.jsonl --out tokenizer.json >/dev/null &&
    "$exe" init --config "$here/configs/demo_model.json" --tokenizer tokenizer.json --min-pixels 7056 --max-pixels 7056 \
        --resample 4 --out model >/dev/null && "$exe" data synth --kind prompts --n 12 --split g --out p >/dev/null || fail "setting up"
set_small=(--set rollout.max_turns=0 --set rollout.max_new_tokens=20 --set rollout.max_tokens=300 --set rollout.kv_tokens=8192
    --set rollout.prefill_tokens=256)

$python - <<'PY' || fail "making pictures"
import numpy as np
from PIL import Image
r = np.random.RandomState(0)
for name, a, mode in [("wide.png", r.randint(0, 255, (30, 900, 3), np.uint8), None), ("grey.png", r.randint(0, 255, (41, 33), np.uint8), None),
                      ("alpha.png", r.randint(0, 255, (300, 200, 4), np.uint8), None), ("photo.jpg", r.randint(0, 255, (1500, 1100, 3), np.uint8), None),
                      ("bit.png", r.randint(0, 2, (64, 64), np.uint8) * 255, "1"), ("thin.png", r.randint(0, 255, (4, 1000), np.uint8), None)]:
    im = Image.fromarray(a)
    (im.convert(mode) if mode else im).save(name)
PY
for f in wide.png grey.png alpha.png photo.jpg bit.png; do
    "$exe" generate --model model --image $f --ask "What is it?" "${set_small[@]}" --out out >text 2>err || fail "$f: $(cat err)"
    grep -q "$(basename $f | sed 's/wide.png/900x30/; s/grey.png/33x41/; s/alpha.png/200x300/; s/photo.jpg/1100x1500/; s/bit.png/64x64/')" text || fail "$f: size not shown"
    grep -q "What is it?" text && grep -q "^end " text || fail "$f: conversation not shown"
    $python -c "
from PIL import Image
w, h = Image.open('out/img/000000_0.png').size
assert w % 28 == 0 and h % 28 == 0, (w, h)" || fail "$f: view not written"
done
"$exe" generate --model model --image wide.png --image grey.png --ask "<|im_end|> both <|image_pad|>" "${set_small[@]}" --samples 3 >text || fail "two pictures"
[ "$(grep -c '^end ' text)" = 3 ] && [ "$(grep -c 'picture ' text)" = 2 ] || fail "three samples of two pictures"
refuse() { # expected text, arguments
    local want=$1
    shift
    "$exe" generate --model model "${set_small[@]}" "$@" >text 2>err && fail "accepted: $*"
    grep -q "$want" err || fail "$*: $(cat err)"
}
refuse "aspect ratio" --image thin.png --ask x
refuse "No such file" --image none.png --ask x
refuse "either --data" --image grey.png
refuse "goes with --ask" --image grey.png --data p/data.jsonl
refuse "tool_openings" --image grey.png --ask x --set rollout.force=tool

run() { "$exe" generate --model model --data p/data.jsonl --samples 3 "${set_small[@]}" "$@" 2>/dev/null; }
run >a.jsonl || fail "a dataset"
run --set rollout.max_batch=1 --set rollout.prefill_tokens=32 --set rollout.kv_tokens=400 >b.jsonl || fail "a small engine"
run --set device.threads=1 --out kept >/dev/null || fail "with --out"
run --set run.seed=7 >c.jsonl || fail "another seed"
$python - <<'PY' || fail "trajectories"
import json, os
def load(f): return [json.loads(l) for l in open(f)]
a, b, c, d = load("a.jsonl"), load("b.jsonl"), load("c.jsonl"), load("kept/trajectories.jsonl")
assert len(a) == len(b) == len(d) == 36
key = lambda t: (t["prompt"], t["index"], t["ids"], t["mask"], t["logprobs"], t["outcome"])
assert [key(t) for t in a] == [key(t) for t in b] == [key(t) for t in d]
assert [key(t) for t in a] != [key(t) for t in c]
assert [(t["prompt"], t["index"]) for t in a] == [(i // 3, i % 3) for i in range(36)]
assert any(a[3 * i]["ids"] != a[3 * i + 1]["ids"] for i in range(12))
for t in a:
    assert len(t["ids"]) == len(t["mask"]) == len(t["logprobs"]) <= 300
    assert all((l is not None) == bool(m) for l, m in zip(t["logprobs"], t["mask"]))
assert len(os.listdir("kept/img")) == 12
PY
[ "$(run --limit 2 | wc -l)" = 6 ] || fail "--limit"
echo "ok: generate"
