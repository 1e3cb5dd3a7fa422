#!/usr/bin/env bash
# h5py reads a shard through the zstd plug-in and finds the rows and pictures that went in. usage: h5py.sh BUILD_DIR
set -euo pipefail
build=$(cd "$1" && pwd)
skip() { echo "SKIP: $*"; exit 77; }
python=/usr/bin/python3
"$python" -c 'import h5py, numpy, PIL' 2>/dev/null || skip "no $python with h5py, numpy and PIL"
[ -x "$build/codedance" ] || skip "no $build/codedance"
ls "$build"/h5plugin/libh5z_codedance_zstd.so >/dev/null 2>&1 || skip "built without HDF5: no zstd plug-in"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
echo '{"min_pixels": 7056, "max_pixels": 7056, "resample": 4}' >"$dir/preprocessor_config.json"
"$build/codedance" data synth --n 30 --seed 4 --split h5py --out "$dir/src"
"$build/codedance" data import "$dir/src/data.jsonl" --model "$dir" --views --out "$dir/shards"
HDF5_PLUGIN_PATH="$build/h5plugin" "$python" - "$dir" <<'PY'
import io, json, sys
import h5py, numpy as np
from PIL import Image

root = sys.argv[1]
source = [json.loads(line) for line in open(f"{root}/src/data.jsonl")]
f = h5py.File(f"{root}/shards/shard_00000.h5", "r")
assert f.attrs["format"] == b"codedance-1", f.attrs["format"]
text, at = bytes(f["rows"][:]), f["row_offset"][:]
rows = [json.loads(text[a:b]) for a, b in zip(at[:-1], at[1:])]
assert [r["id"] for r in rows] == [r["id"] for r in source]
hashes = ["%016x%016x" % (a, b) for a, b in f["image_hash"][:]]
data, off = f["image"], f["image_offset"][:]
view, view_off, size = f["view"], f["view_offset"][:], f["view_size"][:]
checked = 0
for row, want in zip(rows, source):
    for m, w in zip(row["messages"], want["messages"]):
        if isinstance(m["content"], str):
            assert m == w
            continue
        for part, original in zip(m["content"], w["content"]):
            if part["type"] != "image":
                assert part == original
                continue
            i = hashes.index(part["path"])
            raw = bytes(data[off[i]:off[i + 1]])
            assert raw == open(f"{root}/src/{original['path']}", "rb").read()
            picture = Image.open(io.BytesIO(raw)).convert("RGB")
            w_, h_, ow, oh = size[i]
            assert picture.size == (ow, oh)
            seen = np.array(view[view_off[i]:view_off[i + 1]]).reshape(h_, w_, 3)
            assert np.array_equal(seen, np.array(picture.resize((w_, h_), Image.BOX))), "view differs from Pillow's"
            checked += 1
print(f"ok: {len(rows)} rows and {checked} pictures read by h5py {h5py.__version__}")
PY
