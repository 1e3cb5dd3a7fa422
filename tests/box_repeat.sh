#!/bin/bash
# The same code with the same seed prints the same bytes in another process: clocks, generators, addresses, directories.
set -u
box="$1/codedance box" here=tests/honest work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

said() { sed 's/"wall_ms".*//' "$1"; } # what follows are measurements
setarch -R true 2>/dev/null || said() { sed 's/"wall_ms".*//; 3s/.*//' "$1"; } # a container that wants addresses to vary
for python in "" "--python /usr/bin/python3"; do
    run="$box --tier T1 $python --interactive $here/repeat.py"
    $run --seed 5 >"$work/1" 2>"$work/err" || { cat "$work/err"; echo "SKIP: no boxes here"; exit 77; }
    $run --seed 5 >"$work/2"
    $run --seed 6 >"$work/3"
    said "$work/1" | grep -o '"verdict":"[A-Z_]*"' | tr '\n' ' ' >"$work/verdicts"
    ok='"verdict":"OK" '
    [ "$(cat "$work/verdicts")" = "$ok$ok$ok$ok$ok$ok\"verdict\":\"PY_ERROR\" $ok" ] || { cat "$work/1"; fail "$(cat "$work/verdicts")"; }
    diff <(said "$work/1") <(said "$work/2") || fail "two runs differ"
    for turn in 2 5 8; do
        [ "$(said "$work/1" | sed -n ${turn}p)" != "$(said "$work/3" | sed -n ${turn}p)" ] || fail "turn $turn does not depend on the seed"
    done
    grep -q '"stdout":"1767225600.001 17672256000' "$work/1" || fail "the clock does not stand still"
done

# A record is reproduced, and what is not the same is found.
/usr/bin/python3 -c "
from PIL import Image
for name, at in (('a', 0), ('b', 9)):
    im = Image.new('RGB', (64, 48), (1, 2, 3)); im.putpixel((at, 5), (9, 9, 9)); im.save('$work/' + name + '.png')
" 2>/dev/null || { echo "SKIP: no python3 with PIL"; exit 77; }
cat >"$work/code.py" <<'PY'
import random
x = random.random()
print('first line')
print(img.size, x)
show(img.crop((0, 0, 30, 20)))
# %%
def f(n):
    return 1 / n
f(0)
# %%
while True: pass
# %%
print(x, id(x))
raise SystemExit(3)
PY
turns="$box --tier T1 --limits wall=0.7"
$turns --image "$work/a.png" --seed 9 --interactive --record "$work/rec" "$work/code.py" >/dev/null || fail "recording"
[ "$(wc -l <"$work/rec")" = 5 ] || fail "a record has a line for the box and one per turn"
replay() { $box --tier T1 --replay "$@" 2>&1; }
[ "$(replay "$work/rec" --image "$work/a.png" --record "$work/rec2")" = "reproduced 4 turns" ] || fail "$(replay "$work/rec" --image "$work/a.png")"
cmp "$work/rec" "$work/rec2" || fail "the record of a replay is another"
finds() { # sed expression on the record, message
    sed "$1" "$work/rec" >"$work/other"
    said=$(replay "$work/other" --image "$work/a.png")
    [ $? = 1 ] && [[ "$said" == *"$2"* ]] || fail "$1: $said"
}
finds 's/first line\\n(64/first line\\n(65/' 'turn 1 differs in line 2 of its text: recorded "(65'
finds 's/"seed":9/"seed":8/' 'turn 1 differs in line 2'
finds '2s/"print":"./"print":"x/' 'turn 1: picture 1 is another one'
finds 's/division by zero/division by two/' 'turn 2 differs in line 1 of its error message: recorded "division by two", now "division by zero"'
finds 's/TIMEOUT_SOFT/OK/' 'turn 3: recorded verdict OK, now TIMEOUT_SOFT KeyboardInterrupt'
finds 's/"exit":3/"exit":4/' 'turn 4: recorded exit 4, now 3'
finds 's/"memory_mib":1024/"memory_mib":1/' 'memory_mib'
finds '3d' 'other:3'
finds '2,$d' 'no turns in it'
finds '1d' 'other:1'
finds '3s/"code"/"cod"/' 'code'
finds '4s/.$//' 'other:4'
said=$(replay "$work/rec" --image "$work/b.png") && fail "another picture was accepted"
[[ "$said" == *"--image 1 is not the recorded picture (64x48)"* ]] || fail "$said"
said=$(replay "$work/rec") && fail "no picture was accepted"
[[ "$said" == *"recorded with 1 picture(s), replayed with 0"* ]] || fail "$said"
replay "$work/rec" x.py >/dev/null; [ $? = 2 ] || fail "--replay with a file is a usage error"
head -c 300000 /dev/urandom >"$work/noise"; replay "$work/noise" >/dev/null; [ $? = 1 ] || fail "noise"
echo ok
