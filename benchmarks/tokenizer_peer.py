"""Hugging Face's tokenizers on one thread, for bench_tokenizer:  tokenizer_peer.py TOKENIZER.json TEXTS ROUNDS

TEXTS: UTF-8, a NUL between texts. Prints the least CPU seconds of ROUNDS over all texts, their ids' number and a sum that
depends on their order. The fastest of its calls counts: encode_batch_fast keeps no offsets.
"""
import os
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
from tokenizers import Tokenizer, __version__

path, texts, rounds = sys.argv[1:]
t = Tokenizer.from_file(path)
texts = open(texts, encoding="utf-8", newline="").read().split("\0")
best = float("inf")
for _ in range(int(rounds)):
    for call in (lambda: t.encode_batch_fast(texts, add_special_tokens=False),
                 lambda: [t.encode(s, add_special_tokens=False) for s in texts]):
        at = time.process_time()
        out = call()
        best = min(best, time.process_time() - at)
n = total = 0
for e in out:
    for i in e.ids:
        n += 1
        total = (total * 31 + i) & 0xFFFFFFFF
print(best, n, total, __version__)
