#!/usr/bin/env bash
# Compares this program with transformers on random small models, and sends tests/fixtures round:
# hf_parity.sh BUILD_DIR [PYTHON]
# Exit 77 when no python with torch and transformers (Qwen2.5-VL) is found.
set -u
build=${1:?usage: hf_parity.sh BUILD_DIR [PYTHON]}
here=$(cd "$(dirname "$0")" && pwd)
need='import torch, PIL; from transformers import Qwen2_5_VLForConditionalGeneration'
for python in ${2:+"$2"} python3 /usr/bin/python3; do
    "$python" -c "$need" >/dev/null 2>&1 || continue
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    "$python" "$here/hf_parity.py" "$build/codedance" "$work" &&
        "$python" "$here/hf_fixtures.py" "$build/codedance" "$work" && "$python" "$here/hf_dtypes.py" "$build/codedance" "$work"
    exit
done
echo "SKIP: no python with torch, pillow and transformers >= 4.49 (give one as the second argument)"
exit 77
