#!/bin/bash
# Training on a GPU, real or emulated (tests/cuda_emu), through the command line: in fp32 the weights of the CPU run to
# the bit, in bf16 rollout log-probs that are the trainer's. usage: train_cuda.sh BUILD_DIR [--gpu]
set -u
cd "$(dirname "$0")/.." || exit 2
build=$(realpath "${1:?build directory}")
exe=$build/codedance
[ -x "$exe" ] || { echo "SKIP: $exe is not built"; exit 77; }
"$exe" doctor >/dev/null 2>&1 || { echo "SKIP: codedance doctor finds no sandbox here"; exit 77; }
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
launcher=
if [ "${2:-}" = --gpu ]; then
    gpu=$exe
else # a program looks for its plug-in and for its sandbox beside itself
    [ -f "$build/cuda_emu/codedance_cuda.so" ] || { echo "SKIP: no emulated GPU was built"; exit 77; }
    mkdir "$tmp/bin" && cp "$build"/codedance "$build"/codedance-zygote* "$build/cuda_emu/codedance_cuda.so" "$tmp/bin/"
    gpu=$tmp/bin/codedance
fi
cat >"$tmp/model.json" <<'END'
{"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl", "hidden_act": "silu",
 "hidden_size": 32, "intermediate_size": 40, "max_position_embeddings": 1024, "num_attention_heads": 2,
 "num_hidden_layers": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-6,
 "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}, "rope_theta": 10000.0, "tie_word_embeddings": true,
 "vocab_size": 528,
 "vision_config": {"model_type": "qwen2_5_vl", "depth": 2, "fullatt_block_indexes": [1], "hidden_act": "silu",
  "hidden_size": 32, "in_channels": 3, "intermediate_size": 40, "num_heads": 2, "out_hidden_size": 32, "patch_size": 14,
  "spatial_merge_size": 2, "temporal_patch_size": 2, "tokens_per_second": 2, "window_size": 112}}
END
model_json=$tmp/model.json
. tests/common/tiny_run.sh
tiny_setup || { echo "not ok: setup"; exit 1; }
bad=0
short=(--set warmup.steps=1 --set warmup.batch=2 --set sft.steps=2 --set sft.batch=2 --set rl.steps=1 --set rl.prompts=1
    --set rollout.group=2 --set rl.minibatches=1 --set rollout.max_new_tokens=8 --set eval.limit=0)

tiny_train cpu "${short[@]}" || exit 1
exe=$gpu
tiny_train fp32 "${short[@]}" --device cuda:0 --set device.precision=fp32 || exit 1
if [ "$(weights cpu)" = "$(weights fp32)" ]; then echo "ok: fp32 on the GPU trains the CPU's weights"; else echo "not ok: fp32: the weights differ"; bad=1; fi
tiny_train bf16 "${short[@]}" --device cuda:0 || exit 1
tiny_train bf16_again "${short[@]}" --device cuda:0 || exit 1
if [ "$(weights bf16)" = "$(weights bf16_again)" ]; then echo "ok: bf16 trains the same weights again"; else echo "not ok: bf16: the weights differ"; bad=1; fi
if [ "$(weights bf16)" = "$(weights cpu)" ]; then echo "not ok: device.precision has no effect"; bad=1; fi
for name in fp32 bf16; do
    grep -q '"max_logp_diff":0' "$tmp/$name/metrics.jsonl" || { echo "not ok: $name: no log-prob check in the metrics"; bad=1; }
    grep -q '"max_logp_diff":[^0]' "$tmp/$name/metrics.jsonl" && { echo "not ok: $name: log-probs differ"; bad=1; }
done
exit $bad
