#!/bin/bash
# Boxes in an interpreter of the user's own (sandbox.python): a virtual environment, what it shows of the machine, and
# one line for each way to name the wrong thing.
# usage: sandbox_python.sh BUILD_DIR
set -u
exe=$(realpath "${1:?build directory}")/codedance
python=/usr/bin/python3
[ -x "$exe" ] || { echo "SKIP: $exe is not built"; exit 77; }
[ -x $python ] || { echo "SKIP: no $python"; exit 77; }
# Not below /tmp, which boxes have their own of; closed to others like a home, with a neighbour nobody may see.
dir=$(mktemp -d "$1/sandbox_python.XXXXXX") || exit 2
dir=$(realpath "$dir")
trap 'rm -rf "$dir" "$tmp"' EXIT
tmp=$(mktemp -d) || exit 2
mkdir "$dir/area" && echo secret >"$dir/area/secret"
if ! $python -m venv --system-site-packages "$dir/area/venv" >"$dir/log" 2>&1; then
    echo "SKIP: no venv: $(tail -n 1 "$dir/log")"
    exit 77
fi
bad=0
fail() { echo "not ok: $*"; bad=1; }
box() { # options..., code on standard input
    "$exe" box --tier T1 "$@" - 2>&1
}
first=$(echo 'x = 1' | "$exe" box --tier T1 - 2>&1) || { case $first in *"no namespaces"* | *"tier T1"*) echo "SKIP: $first"; exit 77 ;; esac }

venv=$dir/area/venv
cat >"$venv/lib/$(ls "$venv/lib")/site-packages/ours.py" <<<'who = "the environment"'
cat >"$venv/lib/$(ls "$venv/lib")/site-packages/ours.pth" <<'X'
import random, sys; sys.pth_ran = True
/
X
out=$(box --python "$venv/bin/python" <<X
import sys, os, ours, random, subprocess
print(sys.prefix == '$venv', sys.executable == '$venv/bin/python', sys.prefix != sys.base_prefix, ours.who)
print(sorted(os.listdir('$dir')), os.listdir('$dir/area'), sorted(os.listdir('$venv')))
print(sys.pth_ran, '/' in sys.path, '' in sys.path, sys.argv, sys.orig_argv == [sys.executable], 'S' in globals())
print(sorted(k for k in os.environ if k.startswith(('PYTHON', 'LD_', 'GLIBC'))))
print(subprocess.run(['python', '-c', 'import ours, sys; print(ours.who, sys.flags.no_site)'], capture_output=True, text=True).stdout)
try: open('$venv/x', 'w')
except OSError as e: print(e.strerror)
print(hash('a'), random.random(), np.random.rand())
X
) || fail "a virtual environment: $out"
for want in 'True True True the environment\n' "['area'] ['venv'] ['bin', 'lib', 'lib64', 'pyvenv.cfg']\\n" \
    "True True False [''] True False\\n" "['LD_ORIGIN_PATH', 'PYTHONHASHSEED']\\n" 'the environment 0\n' \
    'Read-only file system\n'; do
    case $out in *"$want"*) ;; *) fail "a virtual environment: no \"$want\" in $out" ;; esac
done

# Same numbers as the built-in interpreter, over turns, although something in site-packages imported random early.
turns='import random
print(hash("a"), random.random(), np.random.rand())
# %%
print(random.random(), np.random.rand())'
strip() { sed 's/.*"stdout":\("[^"]*\(\\"[^"]*\)*"\).*/\1/'; }
ours=$(box --interactive <<<"$turns" | strip) own=$(box --interactive --python "$venv/bin/python" <<<"$turns" | strip)
[ -n "$ours" ] && [ "$ours" = "$own" ] || fail "numbers differ from the built-in interpreter's: $ours and $own"

# A link to it from elsewhere, and to an interpreter that is no environment.
ln -s "$venv/bin/python" "$dir/link" && ln -s $python "$dir/plain"
for p in "$dir/link" "$dir/plain"; do
    out=$(box --python "$p" <<<'print(2 + 2)')
    case $out in *'"stdout":"4\n"'*) ;; *) fail "$p: $out" ;; esac
done

# What is wrong is said in one line that names the key and the place.
said() { # what it must say, then arguments of box
    local want=$1 out
    shift
    out=$("$exe" box "$@" - 2>&1 <<<'1') && fail "$*: succeeded"
    case $out in *"$want"*) ;; *) fail "$*: \"$out\" does not say \"$want\"" ;; esac
    [ "$(wc -l <<<"$out")" = 1 ] || fail "$*: more than a line: $out"
}
pretend() { # name, Python to run first: an interpreter that lacks something
    printf '#!/bin/sh\nexec %s -I -S -c "import sys; %s; sys.argv = sys.argv[5:]; exec(sys.argv[0])" "$@"\n' $python "$2" >"$dir/$1"
    chmod +x "$dir/$1"
    echo "$dir/$1"
}
cat >"$tmp/c.yaml" <<X
sandbox:
  imports: [numpy, threads]
  python: $venv/bin/python
X
echo 'import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()' >"$venv/lib/$(ls "$venv/lib")/site-packages/threads.py"
said "c.yaml:2:12: sandbox.imports: threads starts threads (2 run)" --config "$tmp/c.yaml"
said "sandbox.imports: no_such_module: ModuleNotFoundError" --python "$venv/bin/python" --set sandbox.imports=[no_such_module]
said "--set sandbox.python='/no/such/python': sandbox.python: /no/such/python: No such file" --python /no/such/python
said "is a folder; name its bin/python" --python "$venv"
said "is not a Python 3.8 or newer" --python /bin/true
said "is not a program that" --python "$venv/pyvenv.cfg"
said "give the interpreter's whole path" --set sandbox.python=bin/python
said "a box needs CPython 3.8 or newer; this is cpython 3.6" --python "$(pretend old 'sys.version_info = (3, 6, 15)')"
said "a box needs CPython 3.8 or newer; this is pypy 3.1" --python "$(pretend pypy "sys.implementation.name = 'pypy'")"
said "has no ctypes" --python "$(pretend bare "sys.modules['ctypes'] = None")"
said "is a free-threaded build" --python "$(pretend free "sys.abiflags = 't'")"
for p in / /home /home/me "$tmp" /proc/self; do
    said "sandbox.python: $dir/prefix: its prefix is $p" --python "$(pretend prefix "sys.prefix = '$p'")"
done
HOME=$venv said "its virtual environment is $venv: boxes would see" --python "$venv/bin/python"
printf '#!/bin/sh\necho first\necho the last line\nexit 3\n' >"$dir/script" && chmod +x "$dir/script"
said "is not a Python 3.8 or newer (it said: the last line)" --python "$dir/script"
printf '#!/bin/sh\nsleep 600 & kill -9 $$\n' >"$dir/script"
said "is not a Python 3.8 or newer" --python "$dir/script"

# Without namespaces: what of the machine a box may read is Landlock's to say, and the environment is part of it.
if [ -x "$1/test_sandbox_hostile_t2" ]; then
    chmod 755 "$dir"
    out=$("$1/test_sandbox_hostile_t2" "$venv/bin/python" 009_ 2>&1)
    rc=$?
    [ $rc = 0 ] || [ $rc = 77 ] || fail "without namespaces: $out"
    chmod 700 "$dir"
fi

# doctor tells which interpreter it is.
out=$("$exe" doctor --set sandbox.python="$venv/bin/python" 2>&1)
case $out in *"$venv/bin/python with numpy"*) ;; *) fail "doctor: $out" ;; esac
[ $bad = 0 ] && echo "ok: an interpreter of one's own"
exit $bad
