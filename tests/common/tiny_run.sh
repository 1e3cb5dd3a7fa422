# Sourced by script tests: a tiny model ($model_json, or the demo's) and tiny data to train on, and one training run.
# Needs $exe and $tmp.
tiny_setup() {
    "$exe" data synth --kind sft --n 500 --seed 1 --out "$tmp/sft" >/dev/null &&
        "$exe" data synth --kind labels --n 60 --seed 1 --out "$tmp/labels" >/dev/null &&
        "$exe" data synth --kind prompts --n 24 --seed 1 --split rl --out "$tmp/prompts" >/dev/null &&
        "$exe" data tokenizer "$tmp/sft/data.jsonl" --merges 190 --out "$tmp/tokenizer.json" >/dev/null &&
        "$exe" init --config "${model_json:-configs/demo_model.json}" --tokenizer "$tmp/tokenizer.json" --min-pixels 7056 --max-pixels 7056 \
            --resample 4 --seed 3 --out "$tmp/model" >/dev/null || return 1
    cat >"$tmp/tiny.yaml" <<END
include: $PWD/configs/demo.yaml
model: {path: $tmp/model}
train: {stages: [warmup, sft, rl], checkpoint_every: 2, keep: 100}
warmup: {data: $tmp/labels/data.jsonl, steps: 3, batch: 16}
sft: {data: $tmp/sft/data.jsonl, steps: 12, batch: 8}
optim_sft: {lr: 0.004, warmup_steps: 2}
rollout: {max_new_tokens: 24, group: 4}
rl: {data: $tmp/prompts/data.jsonl, steps: 3, prompts: 4, minibatches: 2}
optim_rl: {lr: 0.001}
eval: {data: $tmp/prompts/data.jsonl, limit: 8, keep: 1}
END
}

# tiny_train NAME [--set ...]: trains into $tmp/NAME
tiny_train() {
    local name=$1
    shift
    $launcher "$exe" train "$tmp/tiny.yaml" --set run.dir="$tmp/$name" "$@" >"$tmp/$name.log" 2>&1 || {
        echo "not ok: training $name failed"
        tail -n 5 "$tmp/$name.log"
        return 1
    }
}
weights() { sha256sum "$tmp/$1/export/model.safetensors" | cut -d' ' -f1; }
