#!/usr/bin/env bash
# `codedance init` and `codedance export` as a user runs them: init_export.sh BUILD_DIR
set -eu
exe=$(realpath "${1:?usage: init_export.sh BUILD_DIR}")/codedance
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

die() { echo "FAIL: $*"; exit 1; }
# refuses CODE TEXT COMMAND...: exit code and a piece of the message
refuses() {
    local code=$1 text=$2 rc=0
    shift 2
    "$@" >out 2>err || rc=$?
    [ $rc -eq "$code" ] || die "exit $rc, not $code: $*: $(cat err)"
    grep -qF -- "$text" err || die "'$(cat err)' does not say '$text': $*"
}
same() { cmp "$1" "$2" || die "$1 and $2 differ"; }

"$exe" data synth --kind sft --n 60 --split init --seed 1 --out data >/dev/null
"$exe" data tokenizer data/data.jsonl --merges 64 --out tokenizer.json >/dev/null
init() { "$exe" init --config "$here/configs/demo_model.json" --tokenizer "$@"; }

init tokenizer.json --seed 3 --min-pixels 7056 --max-pixels 7056 --resample 4 --out a >/dev/null
for f in config tokenizer tokenizer_config preprocessor_config chat_template generation_config; do
    [ -s a/$f.json ] || die "init wrote no $f.json"
done
init a --seed 3 --preprocessor a/preprocessor_config.json --out b >/dev/null # tokenizer and pictures of another model
init a --seed 4 --preprocessor a/preprocessor_config.json --out c >/dev/null
for f in model.safetensors config.json tokenizer.json tokenizer_config.json preprocessor_config.json chat_template.json; do
    same a/$f b/$f
done
cmp -s a/model.safetensors c/model.safetensors && die "seeds 3 and 4 give the same weights"

refuses 1 "already holds a model" init tokenizer.json --out a
refuses 2 "--out are needed" init tokenizer.json
refuses 2 "--resample 9" init tokenizer.json --resample 9 --out d
refuses 2 "at most --max-pixels" init tokenizer.json --min-pixels 99 --max-pixels 9 --out d
refuses 2 "already says" init a --preprocessor a/preprocessor_config.json --min-pixels 9 --out d
sed 's/"vocab_size": [0-9]*/"vocab_size": 330/' "$here/configs/demo_model.json" >small.json
refuses 1 "does not cover the tokenizer's 335 ids" "$exe" init --config small.json --tokenizer a --out d
sed 's/"vocab_size"/"eos_token_id": 5, "vocab_size"/' "$here/configs/demo_model.json" >token.json
refuses 1 "eos_token_id must be 322" "$exe" init --config token.json --tokenizer a --out d
[ ! -e d ] || die "a refused init left something behind"

"$exe" export a --to f32 >/dev/null
for f in a/*; do same "$f" "f32/${f#a/}"; done
"$exe" export a --to half/way/bf16 --dtype bf16 >/dev/null
"$exe" export half/way/bf16 --to again --dtype bf16 >/dev/null
for f in again/*; do same "$f" "half/way/bf16/${f#again/}"; done
grep -q '"bfloat16"' again/config.json || die "a bf16 export that does not say so"
refuses 1 "is the directory to export itself" "$exe" export a --to ./a
refuses 2 "--dtype f32" "$exe" export a --to x --dtype f32
refuses 1 "does not exist" "$exe" export nowhere --to x
refuses 1 "no complete checkpoint" "$exe" export data --to x

# Written in halves from the start: what an fp32 model gives when it is exported; and kept as it is without being asked.
init tokenizer.json --seed 3 --min-pixels 7056 --max-pixels 7056 --resample 4 --dtype bf16 --out a16 >/dev/null
for f in a16/*; do same "$f" "again/${f#a16/}"; done
"$exe" export a16 --out a16again >/dev/null
for f in a16/*; do same "$f" "a16again/${f#a16/}"; done
"$exe" export a16 --out wide --dtype fp32 >/dev/null # widening is exact, and so is the way back
"$exe" export wide --out narrow --dtype bf16 >/dev/null
same narrow/model.safetensors a16/model.safetensors
same narrow/config.json a16/config.json
"$exe" export a16 --out f16 --dtype fp16 >/dev/null
"$exe" export f16 --out f16again >/dev/null
for f in f16/*; do same "$f" "f16again/${f#f16/}"; done

# Read where they lie, such weights give the same log-probs as widened ones, to the last digit.
"$exe" score --model a16 data/data.jsonl --limit 4 >score.fp32
"$exe" score --model a16 --dtype bf16 data/data.jsonl --limit 4 >score.bf16
same score.fp32 score.bf16
[ "$(wc -l <score.bf16)" -eq 4 ] || die "score printed $(wc -l <score.bf16) lines"
"$exe" generate --model a16 --dtype bf16 --ask "How many?" --set rollout.max_turns=0 --set rollout.max_new_tokens=8 \
    --set rollout.temperature=0 >said.bf16 || die "generate --dtype bf16"
refuses 2 "--dtype half: fp32 or bf16" "$exe" score --model a16 --dtype half data/data.jsonl
refuses 1 "bf16 is for inference" "$exe" train "$here/configs/demo.yaml" --set model.path=a16 --set model.dtype=bf16 \
    --set run.dir=trained

# Shards: the same tensors, whoever cuts them, and back into one file.
init tokenizer.json --seed 3 --min-pixels 7056 --max-pixels 7056 --resample 4 --shard-size 1000000 --out cut >/dev/null
[ ! -e cut/model.safetensors ] && [ -e cut/model.safetensors.index.json ] || die "no shards"
"$exe" export a --out cut2 --shard-size 1000000 >/dev/null
for f in cut/*; do same "$f" "cut2/${f#cut/}"; done
"$exe" export cut --out whole >/dev/null
same whole/model.safetensors a/model.safetensors
for f in cut/model-*; do [ "$(stat -c %s "$f")" -lt 1100000 ] || die "$f is too large"; done
refuses 1 "already holds a model" "$exe" export a --out cut
refuses 1 "already holds a model" init tokenizer.json --out cut
cp a/model.safetensors cut2/
refuses 1 "remove the stale one" "$exe" export cut2 --out x
rm cut2/model-00002-of-*
rm cut2/model.safetensors
refuses 3 "model-00002-of-" "$exe" export cut2 --out x

# Stopped in the middle of the weights: nothing that a reader would take for a model.
rc=0
(trap '' XFSZ; ulimit -f 900; exec "$exe" export a --out half_done --shard-size 1600000) >out 2>err || rc=$?
[ $rc -eq 3 ] || die "exit $rc of an export onto a full disk: $(cat err)"
grep -q "cannot write half_done/model-" err || die "a full disk is not named: $(cat err)"
ls half_done | grep -q "tmp" && die "a temporary file is left"
ls half_done | grep -q "index" && die "an index without its shards"
refuses 1 "no complete checkpoint" "$exe" export half_done --out x
"$exe" export a --out half_done --shard-size 1600000 >/dev/null # and the next try is whole
"$exe" export half_done --out whole2 >/dev/null
same whole2/model.safetensors a/model.safetensors

truncate -s -1 f32/model.safetensors
refuses 1 "f32/model.safetensors" "$exe" export f32 --to x
[ ! -e x ] || die "a refused export left something behind"
echo "init and export: ok"
