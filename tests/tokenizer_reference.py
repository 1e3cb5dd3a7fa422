"""The tokenizers library's answers for test_tokenizer.c:  tokenizer_reference.py TOKENIZER.json TEXTS CASES [COUNT]

TEXTS: the training texts, NUL between them; the library must learn the same merges from them.
CASES: written; records  u8 parse_special | u32 bytes, text | u32 n, i32 ids[n] | u32 bytes, decoded text.  255 ends it.
"""
import json
import random
import struct
import sys

try:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
except ImportError as e:
    print(e, file=sys.stderr)
    sys.exit(77)

spec = json.load(open(sys.argv[1]))
texts = open(sys.argv[2], encoding="utf-8", newline="").read().split("\0")
count = int(sys.argv[4]) if len(sys.argv) > 4 else 3000
pattern = spec["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
added = [a["content"] for a in spec["added_tokens"]]

learner = Tokenizer(models.BPE())
learner.normalizer = normalizers.NFC()
learner.pre_tokenizer = pre_tokenizers.Sequence([
    pre_tokenizers.Split(Regex(pattern), "isolated"),
    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
parts = []
for t in texts:  # added tokens are cut out before learning
    pieces = [t]
    for a in added:
        pieces = [q for p in pieces for q in p.split(a)]
    parts += pieces
learner.train_from_iterator(parts, trainers.BpeTrainer(
    vocab_size=256 + len(spec["model"]["merges"]), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False))
theirs = json.loads(learner.to_str())["model"]
ours = [m.split(" ") for m in spec["model"]["merges"]]
for i, (a, b) in enumerate(zip(ours, theirs["merges"])):
    if a != (b.split(" ") if isinstance(b, str) else b):
        sys.exit(f"merge {i}: {a} here, {b} in the library")
if len(ours) != len(theirs["merges"]):
    sys.exit(f"{len(ours)} merges here, {len(theirs['merges'])} in the library")
if {k: v for k, v in spec["model"]["vocab"].items()} != theirs["vocab"]:
    sys.exit("the vocabularies differ")

full = Tokenizer.from_str(json.dumps(spec))
plain = Tokenizer.from_str(json.dumps({**spec, "added_tokens": []}))
rnd = random.Random(1)
words = [w for t in texts for w in t.split(" ")]
spaces = " \t\n\r\v\f\x1c\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000\u200b\ufeff"
marks = "\u0300\u0301\u0307\u0323\u0327\u0338\u0345\u05b0\u0651\u093c\u0b3e\u0dca\u1dce\u3099\u20d0\U0001d165"
letters = "aAsStTßſKÅÉéïñỗΩжЖאبकกカ中가각ﬁﬆ豈Ⅷ\u1100\u1161\u11a8\u0344\u0958\u1e9b\u2126\u212a\u212b\ufb2c\U0002f800"
numbers = "0123456789٣५½²Ⅷ①㉈𝟗"
others = "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~€¿…—、。😀👩\u200d👧\U0001f3fb\ue000\U0010ffff\x00\x01\x7f"


def piece():
    k = rnd.randrange(14)
    if k < 3:
        return rnd.choice(words)
    if k == 3:
        return rnd.choice(added)
    if k == 4:
        return rnd.choice(added)[:rnd.randint(1, 9)]
    if k == 5:
        return "'" + rnd.choice(["s", "S", "t", "re", "RE", "Ve", "ll", "lL", "d", "m", "ſ", "l", "r", "v", "x"])
    if k == 6:
        return rnd.choice(letters) + "".join(rnd.choice(marks) for _ in range(rnd.randint(1, 4)))
    if k == 7:
        return "".join(rnd.choice("\r\n ") for _ in range(rnd.randint(1, 5)))
    pool = (spaces, letters, numbers, others, " ", "aeinorst ")[k - 8]
    return "".join(rnd.choice(pool) for _ in range(rnd.randint(1, 4)))


def put(data):
    out.write(struct.pack("<I", len(data)) + data)


with open(sys.argv[3], "wb") as out:
    for i in range(count):
        s = "".join(piece() for _ in range(rnd.randint(0, 12)))
        t = full if i % 2 else plain
        ids = t.encode(s, add_special_tokens=False).ids
        out.write(struct.pack("<B", i % 2))
        put(s.encode())
        out.write(struct.pack(f"<I{len(ids)}i", len(ids), *ids))
        cut = ids[rnd.randint(0, 2):]  # may start inside a character
        out.write(struct.pack("<I", len(ids) - len(cut)))
        put(full.decode(cut, skip_special_tokens=bool(i % 2)).encode())
    out.write(b"\xff")
