"""Writes a small made-up demo (runs, evaluations, trajectories with pictures) for tests/report.sh: report_fake.py DIR"""
import json, math, os, random, struct, sys, zlib

CATEGORIES = ["rd_easy", "cnt_easy", "rd_hard", "rot_hard", "scn_hard", "cnt_hard"]
rnd = random.Random(7)


def png(path, w, h, pixel):
    raw = b"".join(b"\0" + bytes(c for x in range(w) for c in pixel(x, y)) for y in range(h))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0))
                + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def wilson(p, n):
    z, d = 1.96, 1 + 1.96 ** 2 / n
    c, w = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (c - w) / d, (c + w) / d


def row(cat, n, acc, tool, calls, fail):
    low, high = wilson(acc, n)
    return dict(category=cat, n=n, accuracy=acc, low=low, high=high, tool_rate=tool, mean_calls=calls,
                code_fail_rate=fail if calls else None, acc_tool=None, acc_direct=None, mean_tokens=60.0)


def evaluation(path, arm, stage, seed, step, rows, **more):
    n = sum(r["n"] for r in rows)
    mean = lambda k: sum(r[k] * r["n"] for r in rows) / n
    fails = [r for r in rows if r["code_fail_rate"] is not None]
    rows = rows + [row("all", n, mean("accuracy"), mean("tool_rate"), mean("mean_calls"),
                       sum(r["code_fail_rate"] for r in fails) / max(1, len(fails)))]
    with open(path, "w") as f:
        json.dump(dict(arm=arm, seed=seed, stage=stage, step=step, infra=0.0, rows=rows, **more), f)


def trajectory(where, number, cat, arm):
    hard, k = "hard" in cat, rnd.randint(0, 9)
    used = hard if arm == "fixed" else rnd.random() < 0.5
    failed = used and rnd.random() < 0.3
    ok = used or not hard or rnd.random() < 0.1
    base = [rnd.randint(90, 250) for _ in range(3)]
    os.makedirs(where + "/img", exist_ok=True)
    names = ["img/%d_0_0.png" % number]
    dot = lambda x, y: [30, 30, 30] if 38 <= x < 46 and 38 <= y < 46 and (hard is False or x == y == 42) else \
        [min(255, c + (x * 7 + y * 3) % 9) for c in base]
    png(where + "/" + names[0], 84, 84, dot)
    images = [dict(start=3, grid=[1, 6, 6], w=672, h=672, file=names[0])]
    turns, text = [], "<think>Zoom in.</think><code>\n```python\n%s\n```\n</code>"
    code = "c,r,h=1,1,10\nx,y=c*W+H,r*W+H  # centre\nimg=img.crop((x-h,y-h,x+h,y+h))\nshow(img)"
    tool = lambda ok, kind: dict(ran=True, ok=ok, verdict="OK" if ok else "PY_ERROR", error_type=kind, error_line=0 if ok else 3,
                                 truncated=False, state_lost=False, empty_output=False, wall_ms=4.2, cpu_ms=3.9, queue_ms=0.1,
                                 peak_mib=61.5, tier="T0")
    at = 20
    if failed:
        bad = code.replace("crop", "crp")
        turns.append(dict(start=at, end=at + 12, text=text % bad, code=bad, tool=tool(False, "AttributeError"),
                          tool_text="Error: AttributeError", image_from=1, n_image=0))
        at += 20
    if used:
        names.append("img/%d_0_1.png" % number)
        png(where + "/" + names[1], 84, 84, lambda x, y: [20, 20, 20] if (x // 12 + y // 12 + k) % 3 == 0 else base)
        images.append(dict(start=at + 30, grid=[1, 6, 6], w=20, h=20, file=names[1]))
        turns.append(dict(start=at, end=at + 15, text=text % code, code=code, tool=tool(True, ""), tool_text="No output.",
                          image_from=1, n_image=1))
        at += 40
    turns.append(dict(start=at, end=at + 9, text="<think>I see.</think><answer>%d</answer>" % (k if ok else (k + 1) % 10)))
    n = at + 10
    mask = [0] * n
    for t in turns:
        mask[t["start"]:t["end"]] = [1] * (t["end"] - t["start"])
    return dict(prompt=number, index=0, sample=dict(id="s%d" % number, messages=[dict(role="user", content=[
        dict(type="image", path="img/%d.png" % number), dict(type="text", text="What digit is on the card?")])],
        answer=str(k), verifier="exact", category=cat), ids=[rnd.randint(0, 340) for _ in range(n)], mask=mask,
        logprobs=[-abs(rnd.gauss(0, 0.6)) if m else None for m in mask], images=images, turns=turns, outcome="answered",
        given_answer=str(k if ok else (k + 1) % 10), acc=float(ok), format_ok=True, reward=1.2 if ok else -0.1,
        parts=[dict(name="acc", value=float(ok)), dict(name="score", value=float(ok)), dict(name="d", value=0.3),
               dict(name="tool", value=0.2 if used else 0.0)], masked=False, wall_s=0.2, tool_wait_s=0.01)


def run(root, arm, seed, steps):
    d = "%s/seed%d/%s" % (root, seed, arm)
    os.makedirs(d + "/eval/rl_%06d" % steps)
    with open(d + "/config.yaml", "w") as f:
        f.write("run:\n  name: %s\n  seed: %d\ntrain:\n  arm: %s\nreward:\n  bat: %s\n" % (arm, seed, arm, arm))
    with open(d + "/metrics.jsonl", "w") as f:
        for s in range(40):
            f.write(json.dumps(dict(stage="sft", step=s, loss=3 * math.exp(-s / 9) + 0.2 + rnd.random() / 20, grad_norm=1.0)) + "\n")
        for s in range(steps):
            p = 1 - math.exp(-s / (steps / 4))
            hard = {"fixed": 0.4 + 0.58 * p, "none": 0.4 + 0.6 * p, "published": 0.4 + 0.55 * p}[arm]
            easy = {"fixed": 0.4 * (1 - p), "none": 0.4 + 0.59 * p, "published": 0.4 * (1 - p)}[arm]
            fail = {"fixed": 0.2 - 0.17 * p, "none": 0.2 - 0.15 * p, "published": 0.2 + 0.25 * p}[arm]
            line = dict(stage="rl", step=s, reward=0.4 + 0.7 * p + rnd.gauss(0, 0.05), accuracy=0.6 + 0.37 * p + rnd.gauss(0, 0.03),
                        mean_calls=0.7 + 0.3 * p, entropy=0.5 - 0.3 * p, code_fail_rate=fail + rnd.gauss(0, 0.015), loss=rnd.gauss(0, 0.01),
                        grad_norm=0.8 + rnd.random() / 5, max_logp_diff=0, step_s=0.7 + rnd.random() / 10, gflops=60 + rnd.random(),
                        share_of_peak=0.55, lr=2e-4 * (1 - s / steps))
            for c in CATEGORIES:
                line["tool_rate/" + c] = min(1, max(0, (hard if "hard" in c else easy) + rnd.gauss(0, 0.03)))
                line["accuracy/" + c] = min(1, 0.97 if "easy" in c else 0.45 + 0.5 * p)
            f.write(json.dumps(line) + "\n")
    rows = [row(c, 300, (0.98 if "easy" in c else 0.96) - rnd.random() * 0.05, (0.99 if arm == "none" else 0.01) if "easy" in c else 0.98,
                1.2 if arm == "none" else 0.9 if "hard" in c else 0.02, 0.45 if arm == "published" else 0.03) for c in CATEGORIES]
    evaluation(d + "/eval/rl_%06d.json" % steps, arm, "rl", seed, steps, rows)
    with open(d + "/eval/rl_%06d/trajectories.jsonl" % steps, "w") as f:
        for i, c in enumerate(CATEGORIES * 2):
            f.write(json.dumps(trajectory(d + "/eval/rl_%06d" % steps, i, c, arm)) + "\n")
    for s in (1, 50):
        at = d + "/rollouts/step_%06d" % s
        os.makedirs(at)
        with open(at + "/trajectories.jsonl", "w") as f:
            for i, c in enumerate(CATEGORIES):
                t = trajectory(at, i, c, arm)
                t["adv_seq"] = 0.7 if t["acc"] else -1.1
                t["adv"] = [t["adv_seq"] if m else 0 for m in t["mask"]]
                f.write(json.dumps(t) + "\n")
    open(d + "/peak_rss_mib", "w").write("812.5\n")


def start(root, name, arm, seed, acc_hard, tool, fail):
    """A run that ends with supervised fine-tuning: the start of the arms, and the control."""
    d = "%s/seed%d/%s" % (root, seed, name)
    os.makedirs(d + "/eval")
    with open(d + "/config.yaml", "w") as f:
        f.write("run:\n  name: %s\n  seed: %d\ntrain:\n  arm: %s\n" % (name, seed, arm))
    with open(d + "/metrics.jsonl", "w") as f:
        for stage, n in (("warmup", 60), ("sft", 110)):
            for s in range(n):
                f.write(json.dumps(dict(stage=stage, step=s, loss=3 * math.exp(-s / 9) + 0.2 + rnd.random() / 20, grad_norm=1.0)) + "\n")
    evaluation(d + "/eval/sft_000110.json", arm, "sft", seed, 110,
               [row(c, 300, 0.97 if "easy" in c else acc_hard, tool, 1.4 * tool, fail) for c in CATEGORIES])


def main(root):
    for seed in (0, 1):
        start(root, "sft", "fixed", seed, 0.45, 0.42, 0.21)
        start(root, "control", "control", seed, 0.11, 0.0, None)
        for arm in ("fixed", "none", "published"):
            run(root, arm, seed, 130)
    e = root + "/eval"
    os.makedirs(e)
    how = dict(force="direct", shuffled=False)
    evaluation(e + "/sft_direct.json", "fixed", "sft", 0, 0, [row(c, 300, 0.97 if "easy" in c else 0.09, 0, 0, None) for c in CATEGORIES], **how)
    evaluation(e + "/sft_tool.json", "fixed", "sft", 0, 0, [row(c, 300, 0.97, 1, 1.2, 0.2) for c in CATEGORIES], force="tool", shuffled=False)
    evaluation(e + "/fixed_shuffled.json", "shuffled", "rl", 0, 0, [row(c, 300, 0.97 if "easy" in c else 0.12, 0.5, 0.6, 0.03) for c in CATEGORIES],
               force="free", shuffled=True)
    for name, arm, acc in (("pair_before", "fixed", 0.26), ("pair_after", "pair", 0.97)):
        evaluation("%s/%s.json" % (e, name), arm, "rl", 0, 0, [row("scn_rot", 300, acc, 0.98, 1.8, 0.03)], force="free", shuffled=False)
    for k, direct in ((1, 0.1), (2, 0.12), (4, 0.3), (8, 0.81), (16, 0.97), (32, 0.99)):
        for force, acc, tool in (("free", max(direct, 0.97), 1 - direct * 0.98), ("direct", direct, 0), ("tool", 0.98, 1)):
            evaluation("%s/size%d_%s.json" % (e, k, force), "fixed", "rl", 0, 0, [row("rd_easy", 400, acc, tool, tool, 0.03 if tool else None)],
                       force=force, tile_scale=k, shuffled=False)
    with open(root + "/leak.json", "w") as f:
        json.dump(dict(seed=1, n=12000, epochs=8, seconds=9.5, rows=[
            dict(category="rd_hard", what="the digit of a tiny tile", tile_scale=1, chance=0.1, accuracy=0.14, best_epoch=0.15, goal=0.25),
            dict(category="rd_easy", what="the digit that fills the card", tile_scale=32, chance=0.1, accuracy=0.99, best_epoch=0.99, goal=None)]), f)
    open(root + "/notes.json", "w").write("{}")


main(sys.argv[1])
