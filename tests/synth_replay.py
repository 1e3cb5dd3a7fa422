"""Runs the oracle's code of every row of a synth data.jsonl and compares what it gives with what the row claims.

usage: synth_replay.py DIR      prints the number of code turns run; exit 1 at the first difference, 77 without PIL or numpy
"""
import json
import re
import sys

try:
    import numpy as np
    from PIL import Image
except ImportError as e:
    print(f"SKIP: {e}")
    sys.exit(77)


def run(code, state):
    """One turn: (text, picture). A failed turn leaves the state as it was."""
    lines, shown, trial = [], [], dict(state)
    trial["show"] = shown.append
    trial["print"] = lambda *a: lines.append(" ".join(str(x) for x in a))
    try:
        exec(compile(code, "turn", "exec"), trial)
    except Exception as e:
        return f"Error: {type(e).__name__}", None
    state.update(trial)
    return "\n".join(lines), shown[-1] if shown else None


def check(row, folder):
    pictures = lambda m: [p["path"] for p in m["content"] if p["type"] == "image"] if isinstance(m["content"], list) else []
    load = lambda path: Image.open(f"{folder}/{path}").convert("RGB")
    state, turns, result = {"np": np, "W": 224, "H": 116, "img": load(pictures(row["messages"][0])[0])}, 0, None
    for m in row["messages"][1:]:
        if m["role"] == "assistant":
            code = re.search(r"<code>\n```python\n(.*?)```\n</code>", m["content"], re.S)
            result = run(code.group(1), state) if code else None
            turns += code is not None
            continue
        text, picture = result
        claimed = pictures(m)
        if claimed:
            want = load(claimed[0])
            assert picture is not None and picture.size == want.size, f"{row['id']}: no such picture ({text})"
            assert np.array_equal(np.array(picture), np.array(want)), f"{row['id']}: other pixels"
        else:
            assert text == m["content"] and picture is None, f"{row['id']}: {text!r} instead of {m['content']!r}"
    return turns


folder = sys.argv[1]
rows = [json.loads(line) for line in open(f"{folder}/data.jsonl")]
try:
    print(f"{sum(check(r, folder) for r in rows)} code turns of {len(rows)} rows give what the oracle says")
except AssertionError as e:
    print(f"FAILED: {e}")
    sys.exit(1)
