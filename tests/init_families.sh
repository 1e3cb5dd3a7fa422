#!/usr/bin/env bash
# A new model of every family from its config.json, in the layout it is published in and in the others: init, score,
# export, plan. init_families.sh BUILD_DIR
set -eu
exe=$(realpath "${1:?usage: init_families.sh BUILD_DIR}")/codedance
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

die() { echo "FAIL: $*"; exit 1; }
same() { cmp "$1" "$2" || die "$1 and $2 differ"; }

"$exe" data synth --kind sft --n 20 --split init --seed 1 --out data >/dev/null
"$exe" data tokenizer data/data.jsonl --merges 64 --out tokenizer.json >/dev/null
head -n 2 data/data.jsonl >data/rows.jsonl

text='"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
      "num_key_value_heads": 2, "vocab_size": 512, "rms_norm_eps": 1e-6, "max_position_embeddings": 2048'
vision3='"vision_config": {"depth": 3, "hidden_size": 32, "num_heads": 2, "intermediate_size": 44, "out_hidden_size": 48,
         "patch_size": 16, "num_position_embeddings": 25, "deepstack_visual_indexes": [0, 2]}'
rope3='"rope_type": "default", "mrope_section": [4, 3, 3], "mrope_interleaved": true'
cat >qwen2.json <<EOF
{"model_type": "qwen2", $text, "rope_theta": 10000.0, "tie_word_embeddings": true}
EOF
cat >qwen3.json <<EOF
{"model_type": "qwen3", $text, "head_dim": 20, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
EOF
cat >qwen3_vl.json <<EOF
{"model_type": "qwen3_vl", "tie_word_embeddings": true, $vision3,
 "text_config": {$text, "head_dim": 20, "rope_theta": 5000000, "rope_scaling": {$rope3}}}
EOF
cat >qwen3_vl_v5.json <<EOF
{"model_type": "qwen3_vl", "tie_word_embeddings": true, "hidden_size": 99, $vision3,
 "text_config": {$text, "head_dim": 20, "rope_parameters": {"rope_theta": 5000000, $rope3}}}
EOF
cat >qwen3_vl_flat.json <<EOF
{"model_type": "qwen3_vl", "tie_word_embeddings": true, $vision3, $text, "head_dim": 20, "rope_theta": 5000000,
 "rope_scaling": {$rope3}}
EOF
sed 's/"mrope_section"/"rope_scaling": 1, "mrope_section"/' qwen3_vl.json >odd.json

for name in qwen2 qwen3 qwen3_vl qwen3_vl_v5 qwen3_vl_flat; do
    pixels=()
    case $name in *vl*) pixels=(--min-pixels 4096 --max-pixels 4096 --resample 2) ;; esac
    "$exe" init --config $name.json --tokenizer tokenizer.json --seed 5 "${pixels[@]}" --out $name >/dev/null
    "$exe" plan $name --json >plan.out
    grep -q "\"parameters\": $("$exe" plan $name/config.json --json | sed -n 's/.*"parameters": \([0-9]*\).*/\1/p')" plan.out ||
        die "$name: plan of the directory and of its config.json differ"
    "$exe" export $name --out $name.out >/dev/null
    for f in $name/*; do same "$f" "$name.out/${f#"$name"/}"; done
done
for name in qwen3_vl_v5 qwen3_vl_flat; do # one model in three layouts
    for f in qwen3_vl/*; do same "$f" "$name/${f#qwen3_vl/}"; done
done
grep -q '"text_config"' qwen3_vl/config.json || die "Qwen3-VL is published nested"
grep -q '"Qwen3VLForConditionalGeneration"' qwen3_vl/config.json || die "no architecture"
grep -q '"Qwen3ForCausalLM"' qwen3/config.json || die "no architecture"
header() { head -c 20000 $1/model.safetensors | tr -d '\000' | tr ',' '\n'; }
header qwen3_vl | grep -q 'model.language_model.layers.0.self_attn.q_norm.weight' || die "text names of Qwen3-VL"
header qwen3_vl | grep -q 'model.visual.deepstack_merger_list.1.linear_fc2.bias' || die "vision names of Qwen3-VL"
header qwen3 | grep -q '"model.layers.0.self_attn.k_norm.weight' || die "names of Qwen3"

"$exe" score --model qwen3_vl data/rows.jsonl >scores
[ "$(grep -c '"logprobs"' scores)" -eq 2 ] || die "Qwen3-VL scores nothing"
"$exe" generate --model qwen3_vl --image "$(ls data/img/*.png | head -n 1)" --ask "how many?" \
    --set rollout.max_new_tokens=8 --set rollout.max_turns=0 >answer 2>err || die "no answer: $(cat err)"

refuses() { # TEXT SED-EXPRESSION: what is said of qwen3_vl.json changed so
    sed "$2" qwen3_vl.json >changed.json
    rc=0
    "$exe" init --config changed.json --tokenizer tokenizer.json --out refused >out 2>err || rc=$?
    [ $rc -eq 1 ] && grep -qF -- "$1" err || die "exit $rc and '$(cat err)', not '$1'"
    [ ! -e refused ] || die "a refused init left something behind"
}
refuses "rope_theta is missing" 's/"rope_theta": 5000000,//'
refuses "rope_type yarn is not supported" 's/"rope_type": "default"/"rope_type": "yarn"/'
refuses "eos_token_id must be" 's/"head_dim"/"eos_token_id": 3, "head_dim"/'
echo "init of every family: ok"
