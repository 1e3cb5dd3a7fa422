#!/bin/bash
# The whole path, tiny: warm-up, SFT, RL with real calls. Resuming from any checkpoint, threads, and micro-batch sizes must
# not change a bit of the trained weights; other seeds must. usage: train_bits.sh BUILD_DIR
set -u
cd "$(dirname "$0")/.." || exit 2
exe=$(realpath "${1:?build directory}")/codedance
[ -x "$exe" ] || { echo "SKIP: $exe is not built"; exit 77; }
"$exe" doctor >/dev/null 2>&1 || { echo "SKIP: codedance doctor finds no sandbox here"; exit 77; }
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
launcher=
. tests/common/tiny_run.sh
tiny_setup || { echo "not ok: setup"; exit 1; }
bad=0
same() { # WHAT A B
    if [ "$(weights "$2")" = "$(weights "$3")" ]; then echo "ok: $1"; else echo "not ok: $1: the weights differ"; bad=1; fi
}

tiny_train whole --set device.threads=1 || exit 1
tiny_train threads --set device.threads=2 || exit 1
same "2 threads = 1 thread" whole threads
tiny_train again --set device.threads=2 --set device.isa=generic || exit 1
same "another instruction set" whole again
tiny_train small --set train.max_tokens=512 --set rl.steps=1 --set train.stages='[sft]' || exit 1
tiny_train large --set train.max_tokens=4096 --set rl.steps=1 --set train.stages='[sft]' || exit 1
same "micro-batch size (sft)" small large
tiny_train seed --set run.seed=5 || exit 1
[ "$(weights whole)" != "$(weights seed)" ] && echo "ok: another seed trains other weights" || { echo "not ok: the seed has no effect"; bad=1; }

# Resume inside and at the end of stages: as if the run had been killed right after writing that checkpoint, with metrics
# and later checkpoints gone ahead.
steps() { grep -o '"stage":"[a-z_]*","step":[0-9]*' "$tmp/$1/metrics.jsonl"; }
for name in step_00000002 step_00000003 step_00000009 step_00000015 step_00000017; do
    [ -d "$tmp/whole/checkpoints/$name" ] || { echo "not ok: no checkpoint $name"; bad=1; continue; }
    rm -rf "$tmp/resumed"
    mkdir -p "$tmp/resumed/checkpoints"
    cp -r "$tmp"/whole/checkpoints/step_* "$tmp/resumed/checkpoints/"
    cp "$tmp/whole/metrics.jsonl" "$tmp/resumed/"
    for later in "$tmp"/resumed/checkpoints/step_*; do [[ $(basename "$later") > $name ]] && rm -r "$later"; done
    tiny_train resumed --resume || exit 1
    same "resumed from $name" whole resumed
    diff <(steps whole) <(steps resumed) >/dev/null || { echo "not ok: metrics after resuming from $name"; bad=1; }
done

# A polite stop: the step is finished, a checkpoint written, and the rest gives the same weights.
"$exe" train "$tmp/tiny.yaml" --set run.dir="$tmp/stopped" >"$tmp/stopped.log" 2>&1 &
pid=$!
for _ in $(seq 600); do
    [ "$(cat "$tmp/stopped/metrics.jsonl" 2>/dev/null | wc -l)" -ge 5 ] && break
    sleep 0.05
done
kill -TERM $pid
wait $pid && { echo "not ok: SIGTERM did not stop the run"; bad=1; }
grep -q 'go on with --resume' "$tmp/stopped.log" || { echo "not ok: a stopped run must say how to go on"; bad=1; }
tiny_train stopped --resume || exit 1
same "stopped by SIGTERM, then resumed" whole stopped

grep -q '"max_logp_diff":0' "$tmp/whole/metrics.jsonl" || { echo "not ok: no log-prob check in the metrics"; bad=1; }
grep -q '"adv":\[' "$tmp/whole/rollouts/step_000001/trajectories.jsonl" || { echo "not ok: no rollouts kept with their advantages"; bad=1; }
ls "$tmp"/whole/eval/rl_*.json >/dev/null || { echo "not ok: no evaluation"; bad=1; }
"$exe" train "$tmp/tiny.yaml" --set run.dir="$tmp/whole" >"$tmp/refuse.log" 2>&1 && { echo "not ok: overwrites a run"; bad=1; }
grep -q -- '--resume' "$tmp/refuse.log" || { echo "not ok: no advice for an existing run"; bad=1; }
exit $bad
