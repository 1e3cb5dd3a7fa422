"""The tokenizers library against ours on as many strings as you like, by hand (test_tokenizer has a recorded few):

    tokenizer_million.py train DIR [MERGES]     learns a tokenizer from the machine's own multilingual documentation
                                                and writes it the ways Qwen checkpoints are found: DIR/strings.json and
                                                DIR/pairs.json (merges as "A B" and ["A", "B"]), DIR/v5/ (as transformers 5
                                                saves it, with vocab.json and merges.txt beside it), DIR/corpus.txt,
                                                and texts for bench_tokenizer (documents.txt, short.txt, ...)
    tokenizer_million.py cases T.json COUNT [SEED [CORPUS]] | build/release/test_tokenizer T.json -
                                                COUNT strings, generated and cut from the documentation (CORPUS)
    tokenizer_million.py points T.json | ...    every code point in 8 contexts: 8.9 million strings
    tokenizer_million.py ids T.json COUNT [SEED] | ...   random ids, for decoding

Needs tokenizers 0.23 and, for v5/, transformers 5. Records: see tokenizer_reference.py.
"""
import glob
import gzip
import hashlib
import json
import os
import random
import re
import struct
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
           r"\s+(?!\S)|\s+")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
           "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>",
           "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
PLAIN = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
         "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
MIB = 1 << 20


def mo_texts(path):
    """The translations of a .mo file."""
    data = open(path, "rb").read()
    end = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}.get(data[:4])
    if not end:
        return ""
    n, _, at = struct.unpack(end + "3I", data[8:20])
    out = []
    for i in range(n):
        size, where = struct.unpack(end + "2I", data[at + 8 * i:at + 8 * i + 8])
        out.append(data[where:where + size])
    return b"\n".join(out).decode("utf-8", "ignore").replace("\0", "\n")


def read(path):
    if path.endswith(".mo"):
        return mo_texts(path)
    data = (gzip.open if path.endswith(".gz") else open)(path, "rb").read(4 * MIB)
    return data.decode("utf-8", "ignore") if b"\0" not in data[:4096] else ""


def corpus(limit):
    """Texts in a fixed order of sources, so that every language of the translations has the same share."""
    share = "/usr/share/"
    kinds = [(0.45, glob.glob(share + "locale/*/LC_MESSAGES/*.mo")), (0.15, glob.glob(share + "man/*/man[1-8]/*.gz")),
             (0.15, glob.glob(share + "doc/**/*.*", recursive=True)), (0.12, glob.glob("/usr/lib/python3*/**/*.py", recursive=True)),
             (0.05, glob.glob("/usr/include/**/*.h", recursive=True)), (0.03, glob.glob(share + "i18n/locales/*")),
             (0.05, glob.glob(share + "unicode/*.txt") + glob.glob(share + "perl/**/*.p[lm]", recursive=True))]
    for part, paths in kinds:
        groups = {}
        for p in paths:
            if os.path.isfile(p):
                lang = p.split("/")[4] if "LC_MESSAGES" in p or "/man/" in p else ""
                groups.setdefault(lang, []).append(p)
        for lang in sorted(groups):
            left = limit * part / len(groups)
            for p in sorted(groups[lang], key=lambda q: hashlib.md5(q.encode()).digest()):
                try:
                    text = read(p)[:200000]
                except (OSError, EOFError):
                    continue
                text = text[:int(left)]
                left -= len(text)
                if text:
                    yield text
                if left < 1:
                    break


def bench_texts(folder, texts):
    """For bench_tokenizer: documents of all languages, the same in pieces, and single languages."""
    def put_texts(name, parts, limit):
        open(f"{folder}/{name}.txt", "w", encoding="utf-8", newline="").write("\0".join(p for p in parts if p)[:limit])

    def files(pattern, n):
        return [read(p)[:100000].replace("\0", "\n") for p in sorted(glob.glob(pattern))[:n]]
    texts = texts[:]
    random.Random(1).shuffle(texts)
    put_texts("documents", texts, 8000000)
    pieces = [t[i:i + 200] for t in texts for i in range(0, len(t), 200)]
    random.Random(2).shuffle(pieces)
    put_texts("short", pieces[:20000], 8000000)
    put_texts("english", files("/usr/share/doc/*/copyright", 200), 4000000)
    put_texts("python", files("/usr/lib/python3.*/*.py", 150), 4000000)
    for lang, name in (("zh_CN", "chinese"), ("ru", "russian"), ("hi", "hindi"), ("ko", "korean")):
        put_texts(name, files(f"/usr/share/locale/{lang}/LC_MESSAGES/*.mo", 200), 1500000)


def qwen(model):
    t = Tokenizer(model)
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERN), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(add_prefix_space=False, use_regex=False, trim_offsets=False)
    return t


def train(folder, merges):
    os.makedirs(folder + "/v5", exist_ok=True)
    texts = list(corpus(24 * MIB))
    open(folder + "/corpus.txt", "w", encoding="utf-8", newline="").write("\0".join(texts))
    bench_texts(folder, texts)
    t = qwen(models.BPE())
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=256 + merges, show_progress=False,
                                                     initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIAL])
    t.add_tokens([AddedToken(s, special=False, normalized=False) for s in PLAIN])
    spec = json.loads(t.to_str())
    pairs = [m.split(" ") if isinstance(m, str) else m for m in spec["model"]["merges"]]
    for name, m in (("pairs", pairs), ("strings", [" ".join(p) for p in pairs])):
        spec["model"]["merges"] = m
        json.dump(spec, open(f"{folder}/{name}.json", "w"), ensure_ascii=False)
    try:
        from transformers import Qwen2Tokenizer
    except ImportError:
        print("no transformers: no v5/", file=sys.stderr)
    else:
        v5 = Qwen2Tokenizer(vocab=spec["model"]["vocab"], merges=[tuple(p) for p in pairs], eos_token="<|im_end|>",
                            additional_special_tokens=SPECIAL[1:])
        v5.add_tokens([AddedToken(s, special=False, normalized=False) for s in PLAIN])
        v5.save_pretrained(folder + "/v5")
        json.dump(spec["model"]["vocab"], open(folder + "/v5/vocab.json", "w"), ensure_ascii=False)
        with open(folder + "/v5/merges.txt", "w") as f:
            f.write("#version: 0.2\n" + "".join(" ".join(p) + "\n" for p in pairs))
    print(f"{len(texts)} texts, {sum(map(len, texts))} characters, {len(pairs)} merges")


class Trouble:
    """Strings that break tokenizers. Pools are made of ranges of code points, so that no character is left out."""
    spaces = " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000\u200b\ufeff"
    emoji = ["👩\u200d👩\u200d👧\u200d👦", "🏳️\u200d🌈", "👍🏽", "🇩🇪🇫🇷", "❤️", "1️⃣", "🧑🏿\u200d🚀", "\u200d", "\ufe0f", "🏴\U000e0067\U000e0062\U000e007f"]
    rtl = ["שָׁלוֹם", "مُحَمَّد", "العربية ١٢٣", "\u202babc\u202c", "\u2067ab\u2069", "ـــ", "עברית 123", "ﷺ", "فارسی\u200cها"]
    code = ["def f(x):\n    return x**2  # ok\n", "if (a<=b&&c!=d){\n\t++i;\n}\r\n", "\t\t\tx = {'a': [1, 2.5e-7]}", "SELECT * FROM t;",
            "#!/bin/sh\nset -euo pipefail\n", "</div>\n\n\n", "0xDEADBEEF", "a_b__c--d", "=======\n>>>>>>> HEAD", "/* don't */", "\\u00e9\\n", "$$x^{2}_{i}$$",
            "| a | b |\n|---|---|\n", "{{ x }}{% if y %}", "```python\nprint('we''ll')\n```", "https://a.b/c?d=e%20f&g#h"]
    words = ["It's", "we'll", "I'VE", "don'T", "'ſ", "'S", "can't've", "o'clock", "'ll'", "''re", "'Re", "l'été", "Straße", "ǅ", "ﬁn", "naïve",
             "Ω", "Å", "Å", "가", "가", "각", "\u1100\u1161\u11a8", "\uac00\u11a8", "ᄀ\u0301", "क्षि", "நி", "กำ", "ཀྵ", "がﾞ", "豈", "\u0344", "\u2adc"]

    def __init__(self, rnd, added):
        self.rnd, self.added = rnd, added
        self.made = [self.control, self.space, self.run_digits, self.any_chars, self.marked, self.hangul, self.special, self.look_alike,
                     lambda: rnd.choice(self.emoji), lambda: rnd.choice(self.rtl), lambda: rnd.choice(self.code), lambda: rnd.choice(self.words),
                     self.ascii, self.block, self.quote, self.long_run]

    def char(self):
        while True:
            c = self.rnd.choice((0x80, 0x250, 0x3000, 0x10000, 0x20000, 0x110000))
            c = self.rnd.randrange(c)
            if not 0xD800 <= c < 0xE000:
                return chr(c)

    def some(self, f, n):
        return "".join(f() for _ in range(self.rnd.randint(1, n)))

    def control(self):
        return self.some(lambda: chr(self.rnd.choice((self.rnd.randrange(32), 127, self.rnd.randrange(128, 160), 0xAD, 0xFFFE, 0x200F))), 3)

    def space(self):
        return self.some(lambda: self.rnd.choice(self.spaces if self.rnd.random() < 0.4 else " \n\r\t"), 6)

    def run_digits(self):
        return self.some(lambda: self.rnd.choice("0123456789" if self.rnd.random() < 0.9 else "٣५½²Ⅷ①㉈𝟗೩,. "), 40)

    def any_chars(self):
        return self.some(self.char, 6)

    def marked(self):
        base = self.rnd.choice("aeounyAEIqzкא가क \n1.<") if self.rnd.random() < 0.8 else self.char()
        return base + self.some(lambda: chr(self.rnd.choice((0x300, 0x1AB0, 0x1DC0, 0x20D0, 0x591, 0x610, 0x93C, 0x3099, 0xFE20)) + self.rnd.randrange(32)), 5)

    def hangul(self):
        r = self.rnd
        return self.some(lambda: chr(r.choice((0x1100 + r.randrange(24), 0x1161 + r.randrange(24), 0x11A7 + r.randrange(30), 0xAC00 + r.randrange(11172)))), 6)

    def special(self):
        return self.rnd.choice(self.added)

    def look_alike(self):
        s = self.rnd.choice(self.added)
        i, j = sorted((self.rnd.randint(0, len(s)), self.rnd.randint(0, len(s))))
        return self.rnd.choice((s[:i], s[i:], s[:i] + s[j:], s[:i] + " " + s[i:], s[:j] + s[i:], s.upper(), s.replace("|", "｜"), s + "\u0301"))

    def ascii(self):
        return self.some(lambda: chr(self.rnd.randrange(32, 127)), 10)

    def block(self):
        at = self.rnd.randrange(0x3100) & ~0x7F
        return self.some(lambda: chr(at + self.rnd.randrange(128)), 8)

    def quote(self):
        return "'" + self.some(lambda: self.rnd.choice("sStTrReEvVmMlLdDſ'x "), 3)

    def long_run(self):
        return self.rnd.choice(("a", " ", "ab", "é", "e\u0301", "\n", "=", "中", "<", "-\n", "\u0301", "😀", "' ")) * self.rnd.randint(5, 60)

    def text(self):
        return "".join(self.rnd.choice(self.made)() for _ in range(self.rnd.randint(0, 9)))


def contexts():
    """Every code point, where it can be a letter, number, space, mark, contraction or part of an added token."""
    for c in range(0x110000):
        if not 0xD800 <= c < 0xE000:
            x = chr(c)
            yield from (x, "a" + x, x + "a", " " + x, x + x + "\n", "'" + x, "a\u0301" + x + "\u0334", "<|im" + x + "end|>")


def put(data):
    sys.stdout.buffer.write(struct.pack("<I", len(data)) + data)


def put_case(t, special, text, ids, cut):
    sys.stdout.buffer.write(struct.pack("<B", special))
    put(text.encode())
    sys.stdout.buffer.write(struct.pack(f"<I{len(ids)}i", len(ids), *ids))
    sys.stdout.buffer.write(struct.pack("<I", cut))
    put(t.decode(ids[cut:], skip_special_tokens=bool(special & 1)).encode())


def tokenizers_of(path):
    spec = json.load(open(path))
    return (Tokenizer.from_str(json.dumps(spec)), Tokenizer.from_str(json.dumps({**spec, "added_tokens": []})),
            [a["content"] for a in spec["added_tokens"]])


def strings(count, rnd, added, corpus_path):
    trouble = Trouble(rnd, added)
    texts = open(corpus_path, encoding="utf-8", newline="").read() if corpus_path else ""
    for i in range(count):
        if i % 2 or not texts:
            yield trouble.text()
            continue
        at = rnd.randrange(len(texts) - 400)
        s = texts[at:at + rnd.randint(1, 300)].replace("\0", "\n")
        yield s.replace("\n", rnd.choice(("\n", "\r\n", "\n\n"))) if rnd.random() < 0.2 else s


def cases(path, texts, rnd):
    full, plain, _ = tokenizers_of(path)
    batch, n = [], 0

    def flush():
        for special, t in ((0, plain), (1, full)):
            part = [s for k, s in batch if k == special]
            for s, e in zip(part, t.encode_batch_fast(part, add_special_tokens=False)):
                put_case(full, special, s, e.ids, min(len(e.ids), rnd.randint(0, 2)))
        batch.clear()
    for s in texts:
        batch.append((rnd.randrange(2), s))
        n += 1
        if len(batch) == 5000:
            flush()
    flush()
    sys.stdout.buffer.write(b"\xff")
    print(n, "strings written", file=sys.stderr)


def random_ids(path, count, rnd):
    full, _, _ = tokenizers_of(path)
    top = full.get_vocab_size() + 3  # a few rows without a string
    for _ in range(count):
        pool = rnd.choice((top, 256, 2000))
        ids = [rnd.randrange(top - 30, top) if rnd.random() < 0.1 else rnd.randrange(pool) for _ in range(rnd.randint(0, 20))]
        put_case(full, 2 + rnd.randrange(2), "", ids, 0)
    sys.stdout.buffer.write(b"\xff")


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in ("train", "cases", "points", "ids"):
        sys.exit(__doc__)
    what, path, *more = sys.argv[1:]
    count = int(more[0]) if more else 40000
    rnd = random.Random(int(more[1]) if len(more) > 1 else 1)
    if what == "train":
        train(path, count)
    elif what == "cases":
        cases(path, strings(count, rnd, tokenizers_of(path)[2], more[2] if len(more) > 2 else None), rnd)
    elif what == "points":
        cases(path, contexts(), rnd)
    else:
        random_ids(path, count, rnd)


main()
