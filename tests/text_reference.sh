#!/usr/bin/env bash
# Fresh strings, ids and conversations against tokenizers and transformers, and the recorded conversations made again:
# text_reference.sh BUILD_DIR [PYTHON]
# Exit 77 when no python with tokenizers >= 0.20 and transformers >= 5 is found.
set -u
build=${1:?usage: text_reference.sh BUILD_DIR [PYTHON]}
here=$(cd "$(dirname "$0")" && pwd)
need='import tokenizers, transformers, jinja2; assert int(transformers.__version__.split(".")[0]) >= 5'
for python in ${2:+"$2"} python3 /usr/bin/python3; do
    "$python" -c "$need" >/dev/null 2>&1 || continue
    set -o pipefail
    t=$here/fixtures/text/tokenizer.json seed=$RANDOM
    echo "seed $seed"
    "$python" "$here/tokenizer_million.py" cases "$t" 20000 "$seed" | "$build/test_tokenizer" "$t" - || exit 1
    "$python" "$here/tokenizer_million.py" ids "$t" 5000 "$seed" | "$build/test_tokenizer" "$t" - || exit 1
    "$python" "$here/chat_reference.py" "$t" 270 "$seed" | "$build/test_chat" "$t" - || exit 1
    "$python" "$here/chat_reference.py" "$t" 54 | cmp - "$here/fixtures/text/chats.jsonl" || exit 1
    echo "text reference: ok"
    exit 0
done
echo "SKIP: no python with tokenizers and transformers 5 (give one as the second argument)"
exit 77
