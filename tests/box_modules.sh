#!/bin/bash
# Boxes without any of the libraries, and with libraries that the code imports itself: each absence is said where it
# matters, and the rest works.   usage: box_modules.sh BUILD_DIR
set -u
exe=$(realpath "${1:?build directory}")/codedance
python=/usr/bin/python3
[ -x "$exe" ] || { echo "SKIP: $exe is not built"; exit 77; }
$python -c 'import numpy, PIL' 2>/dev/null || { echo "SKIP: no python3 with numpy and PIL"; exit 77; }
dir=$(realpath "$(mktemp -d -p "$1")") || exit 2
trap 'rm -rf "$dir"' EXIT
$python -m venv --without-pip "$dir/bare" 2>"$dir/log" || { echo "SKIP: no venv: $(tail -n 1 "$dir/log")"; exit 77; }
$python -c "from PIL import Image; Image.new('RGB', (40, 30), (7, 8, 9)).save('$dir/a.png')"
bad=0
says() { # what is looked for, options...; code on standard input
    local want=$1
    shift
    out=$("$exe" box --tier T1 --interactive "$@" - 2>&1)
    case $out in *"no namespaces"* | *"tier T1"*) echo "SKIP: $out"; exit 77 ;; esac
    case $out in *"$want"*) ;; *) echo "not ok: no '$want' in $out"; bad=1 ;; esac
}
bare="--python $dir/bare/bin/python --set sandbox.imports=[]"
code='print([1, 2])
{"a": 1}'
says "[1, 2]\\n{'a': 1}\\n" $bare --preset '' <<<"$code"
says "\"type\":\"ModuleNotFoundError\",\"message\":\"No module named 'numpy'\"" $bare --preset '' <<<'import numpy'
says 'show() takes a PIL image, an array or a figure, not list' $bare --preset '' <<<'show([1])'
says 'show() needs a picture' $bare --preset '' <<<'show()'
says 'input pictures need Pillow (PIL), which this Python has not' $bare --preset '' --image "$dir/a.png" <<<'1'
says "sandbox.imports (its default): numpy: ModuleNotFoundError: No module named 'numpy'" --python "$dir/bare/bin/python" <<<'1'
says "No module named 'numpy'" $bare <<<'1' # the default preset
# Nothing imported beforehand: hooks and seeds come with the import.
for python in "" "--python $python"; do
    says '(40, 30) (7, 8, 9)\n","truncated":false,"error":null,"images":[{"w":40,"h":30' $python --set sandbox.imports=[] --preset '' \
        --image "$dir/a.png" <<<'print(img.size, img.getpixel((1, 1)))
img.show()'
    says '"images":[{"w":5,"h":4' $python --set sandbox.imports=[] --preset '' <<<'import numpy as np
show(np.zeros((4, 5)))'
done
[ $bad = 0 ] && echo ok
exit $bad
