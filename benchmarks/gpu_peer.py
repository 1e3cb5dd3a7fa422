"""The peer of bench_cuda: the same figures, under the same names, shapes and timing rule, in PyTorch at its best.

Prints bench_cuda's CSV. A figure may come in several forms, named in brackets: an attention backend, compiled by
torch.compile, replayed as a CUDA graph (where a call is so short that Python is what takes the time). What fails says
so on stderr and the rest goes on. --table FILE makes a Markdown table of the lines of both programs, which gpu.sh puts
together with "ours" or "peer" in front; it needs no torch.
"""
import argparse
import contextlib
import csv
import functools
import gc
import math
import statistics
import sys
import time

if "--table" not in sys.argv:
    import torch
    import torch.nn.functional as F

CACHE = 256 << 20  # bytes, several times the largest level 2: arguments used again after this much come from memory
LAYERS = [("3B o", 2048, 2048), ("3B qkv", 2048, 2560), ("3B down", 11008, 2048), ("3B gate_up", 2048, 22016),
          ("7B o", 3584, 3584), ("7B qkv", 3584, 4608), ("7B down", 18944, 3584), ("7B gate_up", 3584, 37888)]
TEXT_7B, VISION = (28, 4, 128, True), (16, 16, 80, False)  # heads, kv heads, width of a head, causal
opt = None  # the command line
deadline = 0.0


def size(n):
    return n if not opt.tiny or n <= 16 else max(16, (n // 128 + 15) // 16 * 16)


def few(n):
    return 1 + n // 16 if opt.tiny else n


def bulk(n):
    return n >> 14 if opt.tiny else n


def normal(*shape, scale=1.0, dtype=None):
    return torch.randn(*shape, device=opt.device, dtype=dtype or torch.bfloat16).mul_(scale)


def weight(*shape, dtype=None):
    return normal(*shape, scale=0.02, dtype=dtype)


def empty(*shape, dtype=None):
    return torch.empty(*shape, device=opt.device, dtype=dtype or torch.bfloat16)


# ---- measuring ----


def seconds(calls, n, at):
    """n calls of the sets in turn, the first of them number `at`."""
    if opt.device == "cpu":
        t = time.perf_counter()
        for i in range(n):
            calls[(at + i) % len(calls)]()
        return time.perf_counter() - t
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for i in range(n):
        calls[(at + i) % len(calls)]()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) * 1e-3


def sample(calls):
    """Seconds of a call, sorted: batches of 5 ms or more, 0.2 s and 20 batches or more, after 0.1 s to warm up."""
    warm, want, total, least = (0, 0, 0, 2) if opt.tiny else (0.1, 5e-3, 0.2, 20)
    began, n, at, times = time.monotonic(), 1, 0, []
    while True:
        t, at = seconds(calls, n, at), at + n
        past = time.monotonic() - began
        if (t >= want and past >= warm) or past > 5:
            break
        if t < want:
            n = 4 * n if t < want / 8 else int(1.2 * want / t * n) + 1
    while len(times) < 200 and (len(times) < least or sum(times) * n < total):
        if len(times) >= 3 and (time.monotonic() > deadline or time.monotonic() - began > 5):
            break
        times.append(seconds(calls, n, at) / n)
        at += n
    return sorted(times)


def captured(calls):
    """All sets once, or 20 calls, as one CUDA graph; with how many calls it has."""
    rounds = max(1, 20 // len(calls))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        for _ in range(rounds):
            for call in calls:
                call()
    return graph, rounds * len(calls)


def report(group, name, shape, times, flops, moved):
    mid, n = statistics.median(times), len(times)
    print("%s,%s,%s,%.5f,%.5f,%.5f,%s,%s" % (group, name, shape, 1e3 * mid, 1e3 * times[n // 10],
                                             1e3 * times[n * 9 // 10], "%.5g" % (1e-12 * flops / mid) if flops else "",
                                             "%.5g" % (1e-9 * moved / mid) if moved else ""), flush=True)
    return mid


def why(e):
    return (str(e).strip().splitlines() or [type(e).__name__])[0][:200]


def measure(group, name, shape, make, form="", flops=0, moved=0, within=contextlib.nullcontext):
    """make() gives a set's call and the bytes it works on; within() is entered once around all."""
    what = name + (" [%s]" % form if form else "")
    try:
        if time.monotonic() > deadline:
            raise TimeoutError("left out, the time is over")
        with within():
            call, used = make()
            sets = 2 if opt.tiny else min(64, CACHE // used + 1)
            calls = [call] + [make()[0] for _ in range(sets - 1)]
            for call in calls:
                call()
            mid = report(group, what, shape, sample(calls), flops, moved)
            if opt.device != "cpu" and mid < 1e-4:
                graph, n = captured(calls)
                times = [t / n for t in sample([graph.replay])]
                report(group, "%s [%s]" % (name, (form + " graph").strip()), shape, times, flops, moved)
    except Exception as e:  # a form that this torch or this machine lacks: the others are still of use
        print("gpu_peer: %s %s %s: %s" % (group, what, shape, why(e)), file=sys.stderr, flush=True)
    call = calls = graph = None
    gc.collect()
    if opt.device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def used(*tensors):
    return sum(t.numel() * t.element_size() for t in tensors)


# ---- the figures ----


def ceiling():
    n, m = bulk(1 << 30), size(8192)

    def read(function):
        x = normal(n, dtype=torch.float32)
        return functools.partial(function, x), used(x)

    def copy():
        x, y = normal(n, dtype=torch.float32), empty(n, dtype=torch.float32)
        return functools.partial(y.copy_, x), used(x, y)

    for form, function in (("norm", torch.linalg.vector_norm), ("sum", torch.sum)):
        measure("ceiling", "read", "%d f32" % n, functools.partial(read, function), form, moved=4 * n)
    measure("ceiling", "copy", "%d f32" % n, copy, moved=8 * n)
    linear("ceiling", "matmul", "fwd", m, m, m)


def linear(group, name, what, n, in_, out):
    """The gradient of a matrix is added up in bf16, as torch's own backward has it."""

    def make():
        x, w, dy = normal(n, in_), weight(out, in_), normal(n, out)
        if what == "fwd":
            return functools.partial(torch.mm, x, w.t(), out=dy), used(x, w, dy)
        if what == "dx":
            return functools.partial(torch.mm, dy, w, out=x), used(x, w, dy)
        return functools.partial(w.addmm_, dy.t(), x), used(x, w, dy)

    flops, moved = (0, 2 * in_ * out) if group == "decode" else (2 * n * in_ * out, 0)
    measure(group, name, "%dx%dx%d" % (n, in_, out), make, flops=flops, moved=moved)


def gemm():
    for name, in_, out in LAYERS:
        for what in ("fwd", "dx", "dw"):
            linear("gemm", name + " " + what, what, size(4096), size(in_), size(out))


def decode():
    for n in (1, 16, 64, 256):
        for name, in_, out in LAYERS:
            linear("decode", name, "fwd", few(n), size(in_), size(out))


def backends():
    from torch.nn.attention import SDPBackend, sdpa_kernel
    if opt.device == "cpu":
        return [("cpu", contextlib.nullcontext)]
    return [("cudnn", functools.partial(sdpa_kernel, SDPBackend.CUDNN_ATTENTION)),
            ("flash", functools.partial(sdpa_kernel, SDPBackend.FLASH_ATTENTION))]


def packed(name, shape, segments, length):
    """Segments of one length are a batch. expanded: for a backend that can't share kv heads, copied outside the timer."""
    heads, kv, dim, causal = shape
    title = "%dx%d %d/%dx%d" % (segments, length, heads, kv, dim)
    flops = 4 * segments * length * length * heads * dim // (2 if causal else 1)

    def make(back, expanded):
        rows = normal(segments, length, heads + 2 * kv, dim).transpose(1, 2)
        q, k, v = (t.detach().requires_grad_(back) for t in rows.split((heads, kv, kv), 1))
        if expanded:
            k, v = (t.detach().repeat_interleave(heads // kv, 1).requires_grad_(back) for t in (k, v))
        run = functools.partial(F.scaled_dot_product_attention, q, k, v, is_causal=causal,
                                enable_gqa=heads != kv and not expanded)
        if not back:
            return run, 2 * used(q) + used(k, v)
        dout = normal(segments, length, heads, dim).transpose(1, 2)
        return (functools.partial(torch.autograd.grad, run(), (q, k, v), dout, retain_graph=True),
                4 * used(q) + 2 * used(k, v))

    for back in (False, True):
        for form, within in backends():
            for expanded in (False, True)[:1 if heads == kv else 2]:
                measure("attention", name + (" bwd" if back else " fwd"), title, functools.partial(make, back, expanded),
                        form + " expanded" * expanded, flops=flops * 5 // 2 if back else flops, within=within)


def paged(seqs, context):
    """A cache that lies in one piece, as torch wants it: gathering blocks is outside the timer. grouped: the query heads
    of a kv head as rows of one query, which for a single new token is the same."""
    heads, kv, dim, _ = TEXT_7B

    def make(grouped):
        q = normal(seqs, kv, heads // kv, dim) if grouped else normal(seqs, heads, 1, dim)
        k, v = normal(seqs, context, 2 * kv, dim).transpose(1, 2).split(kv, 1)
        return functools.partial(F.scaled_dot_product_attention, q, k, v, enable_gqa=not grouped), used(q, k, v)

    for form, within in backends():
        for grouped in (False, True):
            measure("attention", "paged decode", "%dx%d %d/%dx%d" % (seqs, context, heads, kv, dim),
                    functools.partial(make, grouped), form + " grouped" * grouped,
                    moved=2 * seqs * context * 2 * kv * dim, within=within)


def attention():
    paged(few(64), size(2048))
    packed("windows", VISION, size(256), size(64))
    packed("causal", TEXT_7B, 4, size(1024))
    packed("causal", TEXT_7B, 1, size(4096))
    packed("vision", VISION, 1, size(4096))


def eager(function):
    return function


@functools.lru_cache(None)
def compiled(function):
    return torch.compile(function, dynamic=False)


def forms():
    """What takes longest to make comes last."""
    return [("", eager)] if opt.no_compile else [("", eager), ("compiled", compiled)]


def log_softmax_parts(z, target):
    """Log-probs of the targets, log-sum-exp and entropy of rows of bf16 logits."""
    z = z.float()
    lse = z.logsumexp(-1)
    entropy = lse - ((z - lse[:, None]).exp() * z).sum(-1)
    return z.gather(1, target[:, None])[:, 0] - lse, lse, entropy


def logits_grad(z, target, lse, entropy, dlogp, dent):
    logp = z.float() - lse[:, None]
    dz = -logp.exp() * (dlogp[:, None] + dent[:, None] * (logp + entropy[:, None]))
    return dz.scatter_add(1, target[:, None], dlogp[:, None]).to(z.dtype)


def head():
    """Chunks of 1024 rows, so that the logits are never kept for all rows at once; backward makes them again."""
    n, c, v, chunk = size(4096), size(3584), size(152064), max(16, size(1024))

    def make(parts, grad, back):
        x, w = normal(n, c), weight(v, c)
        target = torch.randint(0, v, (n,), device=opt.device)
        rows = [slice(i, i + chunk) for i in range(0, n, chunk)]
        out = [parts(x[r] @ w.t(), target[r]) for r in rows]
        dw, dlogp = torch.zeros_like(w), weight(n, dtype=torch.float32)

        def forward():
            for r in rows:
                parts(x[r] @ w.t(), target[r])

        def backward():
            dx = torch.empty_like(x)
            for r, (_, lse, entropy) in zip(rows, out):
                dz = grad(x[r] @ w.t(), target[r], lse, entropy, dlogp[r], dlogp[r])
                torch.mm(dz, w, out=dx[r])
                dw.addmm_(dz.t(), x[r])

        return backward if back else forward, used(x, w)

    for form, through in forms():
        parts, grad = through(log_softmax_parts), through(logits_grad)
        for back in (False, True):
            measure("head", "logprob " + ("bwd" if back else "fwd"), "%dx%dx%d" % (n, c, v),
                    functools.partial(make, parts, grad, back), form, flops=(4 if back else 2) * n * c * v)


def swiglu(gu):
    g, u = gu.chunk(2, -1)
    return F.silu(g) * u


def swiglu_grad(dy, gu):
    g, u = gu.float().chunk(2, -1)
    s, dy = torch.sigmoid(g), dy.float()
    return torch.cat((dy * u * s * (1 + g * (1 - s)), dy * g * s), -1).to(gu.dtype)


def rmsnorm_grad(dy, x, w, rstd):
    xhat, dy = x.float() * rstd, dy.float()
    t = dy * w.float()
    dx = rstd * (t - xhat * (t * xhat).mean(-1, keepdim=True))
    return dx.to(x.dtype), (dy * xhat).sum(0)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def norms():
    n, c, ff = size(4096), size(3584), size(18944)
    heads, dim = TEXT_7B[0] + TEXT_7B[1], TEXT_7B[2]
    # Gradients: eager by autograd, compiled from the formula.

    def add():
        a, b, y = normal(n, c), normal(n, c), empty(n, c)
        return functools.partial(torch.add, a, b, out=y), used(a, b, y)

    def norm_fwd(through):
        x, w = normal(n, c), normal(c)
        return functools.partial(through(F.rms_norm), x, (c,), w, 1e-6), 2 * used(x)

    def norm_bwd(through):
        x, w, dy = normal(n, c).requires_grad_(), normal(c).requires_grad_(), normal(n, c)
        if through is compiled:
            x, w = x.detach(), w.detach()
            rstd = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6)
            return functools.partial(through(rmsnorm_grad), dy, x, w, rstd), 3 * used(x)
        y = F.rms_norm(x, (c,), w, 1e-6)
        return functools.partial(torch.autograd.grad, y, (x, w), dy, retain_graph=True), 3 * used(x)

    def rope(through):
        rows = normal(n, heads + TEXT_7B[1], dim)
        angle = torch.rand(n, 1, dim // 2, device=opt.device) * 6
        return functools.partial(through(rotate), rows[:, :heads], angle.cos().bfloat16(), angle.sin().bfloat16()), used(rows)

    def swiglu_fwd(through):
        gu = normal(n, 2 * ff)
        return functools.partial(through(swiglu), gu), used(gu) * 3 // 2

    def swiglu_bwd(through):
        gu, dy = normal(n, 2 * ff), normal(n, ff)
        if through is compiled:
            return functools.partial(through(swiglu_grad), dy, gu), used(gu, dy, gu)
        gu.requires_grad_()
        return functools.partial(torch.autograd.grad, swiglu(gu), gu, dy, retain_graph=True), used(gu, dy, gu)

    measure("norms", "add", "%dx%d" % (n, c), add, moved=6 * n * c)
    for form, through in forms():
        for name, shape, make, moved in (("rmsnorm fwd", (n, c), norm_fwd, 4 * n * c),
                                         ("rmsnorm bwd", (n, c), norm_bwd, 6 * n * c),
                                         ("rope", (n, heads, dim), rope, 4 * n * dim * (heads + 1)),
                                         ("swiglu fwd", (n, ff), swiglu_fwd, 6 * n * ff),
                                         ("swiglu bwd", (n, ff), swiglu_bwd, 10 * n * ff)):
            measure("norms", name, "x".join(map(str, shape)), functools.partial(make, through), form, moved=moved)


def optimizer():
    n = bulk(500000000)

    def make():
        w = torch.nn.Parameter(weight(n, dtype=torch.float32))
        w.grad = normal(n, dtype=torch.float32)
        adamw = torch.optim.AdamW([w], lr=1e-5, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01, fused=True)
        return adamw.step, 4 * used(w)

    measure("optimizer", "adamw", "%d" % n, make, moved=28 * n)


# ---- the table ----


def table(path):
    """Of figures in several forms the fastest counts. Shares are of this run's product and copy, the better of both."""
    ours, peer, keys = {}, {}, {}  # keys: all of both, as they come
    with open(path, newline="") as f:
        for row in csv.DictReader(f):
            name, _, form = row["name"].partition(" [")
            key, ms = (row["group"], name, row["shape"]), float(row["ms"])
            keys[key] = side = ours if row["side"] == "ours" else peer
            if key not in side or ms < side[key][0]:
                side[key] = (ms, form.rstrip("]"), float(row["tflops"] or 0), float(row["gbs"] or 0))

    def best(name, column):
        return max([s[k][column] for s in (ours, peer) for k in s if k[:2] == ("ceiling", name)], default=0)

    product, copy = best("matmul", 2), best("copy", 3)
    print("Ceilings of this run: %.4g TFLOP/s, %.4g GB/s.\n" % (product, copy))
    print("| figure | shape | ours ms | peer ms | peer / ours | ours | of ceiling |\n|---|---|---|---|---|---|---|")
    for key in keys:
        us, them = ours.get(key), peer.get(key)
        rate = share = "-"
        if us:
            of = product if us[2] else copy
            rate = "%.4g %s" % (us[2] or us[3], "TFLOP/s" if us[2] else "GB/s")
            share = "%.0f %%" % (100 * (us[2] or us[3]) / of) if of else "-"
        print("| %s: %s | %s | %s | %s | %s | %s | %s |" % (
            key[0], key[1], key[2], "%.4g" % us[0] if us else "-", ("%.4g %s" % them[:2]).strip() if them else "-",
            "%.2f" % (them[0] / us[0]) if us and them else "-", rate, share))


def main():
    global opt, deadline
    groups = [ceiling, norms, optimizer, decode, gemm, attention, head]
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--groups", help="some of " + ",".join(g.__name__ for g in groups))
    ap.add_argument("--seconds", type=float, default=1e9, help="no figure begins after so many")
    ap.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu")
    ap.add_argument("--tiny", action="store_true", help="bench_cuda's sizes for a trial run")
    ap.add_argument("--no-compile", action="store_true", help="without the forms that torch.compile makes")
    ap.add_argument("--table", metavar="FILE", help="CSV of both programs -> Markdown")
    opt = ap.parse_args()
    if opt.table:
        return table(opt.table)
    deadline = time.monotonic() + opt.seconds
    torch.manual_seed(1)
    if opt.device != "cpu":
        torch.cuda.set_device(torch.device(opt.device).index or 0)
        torch.cuda.set_stream(torch.cuda.Stream())  # the default one can't be captured
    print("torch %s, %s" % (torch.__version__, opt.device if opt.device == "cpu" else torch.cuda.get_device_name()),
          file=sys.stderr)
    print("group,name,shape,ms,p10,p90,tflops,gbs", flush=True)
    for group in groups:
        if not opt.groups or group.__name__ in opt.groups.split(","):
            group()


main()
