#!/bin/bash
# Parts of the sandbox are killed while a policy is trained: the run goes on, and what could not be made again is left out
# of it; the trained weights tell, bit for bit. Then the whole job is killed: nothing stays. usage: train_kill.sh BUILD_DIR
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
bad=0
ok() { echo "ok: $1"; }
no() { echo "not ok: $1"; bad=1; }
# A policy that has learned to call, and boxes that take a while to open: a kill meets some.
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
slow=(--set train.stages='[sft,rl]' --set sft.data="$tmp/sft/calls.jsonl" --set sft.steps=40 --set rl.steps=4
    --set rl.record_every=1 --set rl.record_prompts=100 --set rollout.max_new_tokens=60 --set device.threads=1
    --set sandbox.preset="import time; time.sleep(0.2); W = 9")
child() { pgrep -P "$1" -f "$2" | head -n 1; }
at_sft() { cat "$tmp/$1/metrics.jsonl" 2>/dev/null | grep -c '"stage":"sft"'; }
steps() { cat "$tmp/$1/metrics.jsonl" 2>/dev/null | grep -c '"stage":"rl"'; }
# A box that runs model code: below boxd are the zygote's two processes, runners, and only then holders.
busy() { ps -eo pid=,ppid= | awk -v b="$1" '{up[$1]=$2} END {for (p in up) {q=p; n=0; while (q in up && q!=b && n<9) {q=up[q]; n++} if (q==b && n>=4) k++} exit !k}'; }
running() { kill -0 "$1" 2>/dev/null; }

tiny_train whole "${slow[@]}" || exit 1
grep -q '"verdict":"OK"' "$tmp"/whole/rollouts/step_000001/trajectories.jsonl || no "the tiny policy makes no calls"

"$exe" train "$tmp/tiny.yaml" --set run.dir="$tmp/killed" "${slow[@]}" >"$tmp/killed.log" 2>&1 &
pid=$!
kills=0
for victim in zygote boxd zygote boxd; do # five deaths in a minute would end the run
    while running $pid && [ "$(at_sft killed)" -lt 40 ]; do sleep 0.02; done
    boxd=$(child $pid @boxd)
    while running $pid && ! busy "${boxd:-0}"; do boxd=$(child $pid @boxd); done
    target=$boxd
    [ $victim = zygote ] && target=$(child "${boxd:-0}" @zygote)
    [ -n "$target" ] && kill -9 "$target" 2>/dev/null && kills=$((kills + 1))
    at=$(steps killed)
    while running $pid && [ "$(steps killed)" = "$at" ]; do sleep 0.02; done
done
if wait $pid; then ok "training went on over $kills kills"; else
    no "training ended: $(tail -n 2 "$tmp/killed.log")"
fi
[ $kills -ge 2 ] || no "only $kills kills met the run"
again=$(cat "$tmp"/killed/rollouts/*/trajectories.jsonl | grep -o '"replayed":true' | wc -l)
lost=$(cat "$tmp"/killed/rollouts/*/trajectories.jsonl | grep -c '"outcome":"infra"')
echo "$kills kills: $again turns made again, $lost trajectories left out"
grep -q 'warning: sandbox:' "$tmp/killed.log" || no "the log does not tell of the deaths"
if [ "$lost" = 0 ]; then
    [ "$again" -gt 0 ] || no "no kill met a turn"
    [ "$(weights whole)" = "$(weights killed)" ] && ok "the same weights as without a kill" || no "the weights differ"
else # not scored at all
    cat "$tmp"/killed/rollouts/*/trajectories.jsonl | grep '"outcome":"infra"' | grep -q '"masked":true' ||
        no "a trajectory that the sandbox failed is not masked"
fi

# ---- the boxes of a daemon
"$exe" boxd --listen "$tmp/boxd.sock" >"$tmp/boxd.log" 2>&1 &
daemon=$!
for _ in $(seq 300); do grep -q listening "$tmp/boxd.log" && break; sleep 0.1; done
if tiny_train socket "${slow[@]}" --set sandbox.socket="$tmp/boxd.sock"; then
    [ "$(weights whole)" = "$(weights socket)" ] && ok "the same weights with the boxes of a daemon" || no "a daemon's boxes give other weights"
    grep -q 'client .* served' "$tmp/boxd.log" || no "nobody used the daemon"
else bad=1; fi
kill $daemon
wait $daemon || no "the daemon ended with $?"
[ -e "$tmp/boxd.sock" ] && no "the daemon left its socket"

# ---- the whole job
job=("$exe")
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
command -v mpirun >/dev/null && ldd "$exe" | grep -q libmpi && job=(mpirun -np 2 --oversubscribe --bind-to none "$exe")
things() { cat /proc/self/mountinfo; ls -A /dev/shm | grep -v vader_segment; } # those are Open MPI's
tree() { local p; for p in $(pgrep -P "$1"); do echo "$p"; tree "$p"; done; }
before=$(things)
shm=$(ls -A /dev/shm)
setsid "${job[@]}" train "$tmp/tiny.yaml" --set run.dir="$tmp/job" "${slow[@]}" --set sandbox.preset="import time; time.sleep(1.5); W = 9" >"$tmp/job.log" 2>&1 &
pid=$!
while running $pid && [ "$(at_sft job)" -lt 40 ]; do sleep 0.05; done
sleep 1
all=$(tree $pid)
ours=$(for p in $all; do tr '\0' ' ' <"/proc/$p/cmdline" 2>/dev/null | grep -q '@boxd\|@zygote' || echo "$p"; done)
kill -9 $pid $ours
wait $pid 2>/dev/null # the shell tells of it
left=all
for _ in $(seq 100); do
    left=$(for p in $all; do [ -d "/proc/$p" ] && ! grep -q '^State:.Z' "/proc/$p/status" 2>/dev/null && echo "$p"; done)
    [ -z "$left" ] && break
    sleep 0.01
done
groups=$(for p in $all; do find /sys/fs/cgroup -maxdepth 4 -name "box.$p" 2>/dev/null; done)
[ "$(echo "$all" | wc -w)" -gt 6 ] || no "the job had only $(echo "$all" | wc -w) processes: $(tail -n 12 "$tmp/job.log")"
[ -z "$left$groups" ] && ok "$(echo "$all" | wc -w) processes of a job killed, nothing left after a second" ||
    no "left after a second: $left $groups"
[ "$before" = "$(things)" ] && ok "no mounts, no shared files" || no "mounts or shared files differ: $(diff <(echo "$before") <(things))"
for f in $(ls -A /dev/shm | grep vader_segment); do [[ $shm == *$f* ]] || rm -f "/dev/shm/$f"; done
exit $bad
