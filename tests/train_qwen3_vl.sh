#!/bin/bash
# The whole path with a tiny Qwen3-VL: warm-up, SFT, RL with real calls; threads and resuming must not change a bit, and
# rollout log-probs are the trainer's. usage: train_qwen3_vl.sh BUILD_DIR
set -u
cd "$(dirname "$0")/.." || exit 2
exe=$(realpath "${1:?build directory}")/codedance
[ -x "$exe" ] || { echo "SKIP: $exe is not built"; exit 77; }
"$exe" doctor >/dev/null 2>&1 || { echo "SKIP: codedance doctor finds no sandbox here"; exit 77; }
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
launcher=
model_json=configs/demo_model_qwen3_vl.json
. tests/common/tiny_run.sh
tiny_setup || { echo "not ok: setup"; exit 1; }
bad=0
tiny_train whole --set device.threads=1 || exit 1
tiny_train threads --set device.threads=2 || exit 1
[ "$(weights whole)" = "$(weights threads)" ] && echo "ok: 2 threads = 1 thread" || { echo "not ok: the weights differ"; bad=1; }
for name in step_00000002 step_00000009 step_00000017; do # in each stage
    rm -rf "$tmp/resumed"
    mkdir -p "$tmp/resumed/checkpoints"
    cp -r "$tmp/whole/checkpoints/$name" "$tmp/resumed/checkpoints/" || bad=1
    cp "$tmp/whole/metrics.jsonl" "$tmp/resumed/"
    tiny_train resumed --resume || exit 1
    [ "$(weights whole)" = "$(weights resumed)" ] && echo "ok: resumed from $name" || { echo "not ok: resumed from $name"; bad=1; }
done
grep -q '"max_logp_diff":0' "$tmp/whole/metrics.jsonl" || { echo "not ok: no log-prob check in the metrics"; bad=1; }
grep -q '"max_logp_diff":[^0]' "$tmp/whole/metrics.jsonl" && { echo "not ok: log-probs differ"; bad=1; }
grep -q '"text_config"' "$tmp/whole/export/config.json" || { echo "not ok: the export is no Qwen3-VL"; bad=1; }
exit $bad
