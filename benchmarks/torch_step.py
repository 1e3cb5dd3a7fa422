"""The peer of bench_step: one SFT step of the demo's model in PyTorch on the CPU, at its best.

Same sizes, same 32 sequences (16 x 32 tokens with 1 picture, 12 x 100 with 2, 4 x 190 with 3), same loss rows.
No padding: linears run on packed rows, attention on batches of equal length. Prints one JSON line. Needs torch only.
"""
import argparse
import json
import math
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

SEQS = [(16, 32, 1), (12, 100, 2), (4, 190, 3)]  # count, length, pictures
TOK_PER_PIC, PATCHES = 9, 36


def rope(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def attend(q, k, v, causal):  # (B, H, T, D)
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    s = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if causal:
        s = s.masked_fill(torch.ones(s.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))
    return s.softmax(-1) @ v


class Norm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.w = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.w


class Block(nn.Module):
    def __init__(self, d, heads, kv, hd, inter, vision):
        super().__init__()
        self.n1, self.n2, self.h, self.kv, self.hd, self.vision = Norm(d), Norm(d), heads, kv, hd, vision
        self.qkv = nn.Linear(d, (heads + 2 * kv) * hd)
        self.o = nn.Linear(heads * hd, d, bias=vision)
        self.gu, self.down = nn.Linear(d, 2 * inter, bias=vision), nn.Linear(inter, d, bias=vision)

    def forward(self, x, cos, sin, groups):
        qkv = self.qkv(self.n1(x)).view(x.shape[0], -1, self.hd)
        qk, v = qkv[:, : self.h + self.kv], qkv[:, self.h + self.kv :]
        qk = rope(qk, cos[:, None], sin[:, None])
        out, at = [], 0
        for n, t in groups:
            part = slice(at, at + n * t)
            q, k, w = (z[part].view(n, t, -1, self.hd).transpose(1, 2) for z in (qk[:, : self.h], qk[:, self.h :], v))
            if self.kv != self.h:
                k, w = k.repeat_interleave(self.h // self.kv, 1), w.repeat_interleave(self.h // self.kv, 1)
            out.append(attend(q, k, w, not self.vision).transpose(1, 2).reshape(n * t, -1))
            at += n * t
        x = x + self.o(torch.cat(out))
        g, u = self.gu(self.n2(x)).chunk(2, -1)
        return x + self.down(F.silu(g) * u)


class Model(nn.Module):
    def __init__(self, vocab=512):
        super().__init__()
        self.patch = nn.Linear(1176, 96, bias=False)
        self.vit = nn.ModuleList(Block(96, 4, 4, 24, 192, True) for _ in range(2))
        self.ln, self.m1, self.m2 = Norm(96), nn.Linear(384, 384), nn.Linear(384, 128)
        self.emb = nn.Embedding(vocab, 128)
        self.llm = nn.ModuleList(Block(128, 4, 2, 32, 320, False) for _ in range(3))
        self.norm = Norm(128)

    def forward(self, patches, ids, tok, rows, vcs, tcs, pics):
        v = self.patch(patches)
        for b in self.vit:
            v = b(v, *vcs, [(pics, PATCHES)])
        v = self.m2(F.gelu(self.m1(self.ln(v).view(-1, 384))))
        x = self.emb(ids).index_copy(0, tok, v)
        for b in self.llm:
            x = b(x, *tcs, [(n, t) for n, t, _ in SEQS])
        return F.linear(self.norm(x[rows]), self.emb.weight)


def angles(n, half):
    z = torch.rand(n, half)
    return z.cos(), z.sin()


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--steps", type=int, default=20)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    n_tok, pics = sum(n * t for n, t, _ in SEQS), sum(n * p for n, _, p in SEQS)
    ids, patches = torch.randint(0, 340, (n_tok,)), torch.randn(pics * PATCHES, 1176)
    tok, rows, at = [], [], 0
    for n, t, p in SEQS:
        for _ in range(n):
            tok += [at + 4 + (TOK_PER_PIC + 1) * i + j for i in range(p) for j in range(TOK_PER_PIC)]
            rows += range(at + t - 1 - t // 2, at + t - 1)
            at += t
    tok, rows = torch.tensor(tok), torch.tensor(rows)
    vcs, tcs = angles(pics * PATCHES, 12), angles(n_tok, 16)
    m = Model()
    opt = torch.optim.AdamW(m.parameters(), lr=1e-3)
    target = torch.randint(0, 340, (len(rows),))
    times = []
    for _ in range(a.steps + 3):
        t0 = time.perf_counter()
        opt.zero_grad(set_to_none=True)
        F.cross_entropy(m(patches, ids, tok, rows, vcs, tcs, pics), target).backward()
        torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        opt.step()
        times.append(time.perf_counter() - t0)
    times = sorted(times[3:])
    print(json.dumps({"peer": "torch " + torch.__version__, "threads": a.threads, "tokens": n_tok, "loss_rows": len(rows),
                      "pictures": pics, "ms": round(1e3 * times[len(times) // 2], 2), "ms_min": round(1e3 * times[0], 2)}))


main()
