"""Cases for test_image_cases.c, recorded from Pillow, torchvision and transformers.

image_cases.py OUT [--resizes N] [--pictures N] [--files LIST] [--again FILE]
--resizes, --pictures  how many random ones (120 resizes, 1 round of small pictures)
--files LIST           paths, one a line: real pictures, decoded and put through both processors
--again FILE           also the pictures of an earlier recording whose name starts with "given": files that Pillow cannot
                       write (JPEG with odd sampling factors, YCCK, arithmetic coding) made once with libjpeg

tests/image_cases.bin is made by Pillow 13.0.0, torch 2.15.0, torchvision 0.29.2, transformers 5.23.0 with
"image_cases.py tests/image_cases.bin --again tests/image_cases.bin". With an older Pillow, or without torch, what
needs the newer ones is left out.

A recording: blob who made it; records: u8 kind, blob name, then by kind (blob = u32 length, bytes; hash = 16 hex digits)
  1 decode     u32 w, h; blob file; hash of the RGB bytes
  2 resize     u32 filter, variant, kind, seed, w, h, W, H; hash        (the picture: draw below)
  3 processor  u32 variant; blob json; blob file; u32 grid[3]; hash of pixel_values
  4 refused    blob file
"""
import argparse
import hashlib
import io
import json
import os
import random
import struct
import warnings
import zlib

import numpy as np
import PIL
from PIL import Image, ImageOps

try:
    import torch
    import torchvision
    import transformers
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional as tv
    from transformers import Qwen2VLImageProcessor, Qwen2VLImageProcessorPil
    torch.set_num_threads(1)
except ImportError:
    torch = None

PIL13 = int(PIL.__version__.split(".")[0]) >= 13
warnings.simplefilter("ignore")
rnd = random.Random(7)
np.random.seed(7)
made = set()


def blob(b):
    b = b.encode() if isinstance(b, str) else bytes(b)
    return struct.pack("<I", len(b)) + b


def digest(a):
    return hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()[:16].encode()


def put(kind, name, body):
    out.write(bytes([kind]) + blob(name) + body)


# ---- decoding


def upright(data):
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


def decode(name, data):
    rgb = upright(data)
    put(1, name, struct.pack("<2I", *rgb.size) + blob(data) + digest(np.asarray(rgb)))


def save(name, im, fmt, **kw):
    b = io.BytesIO()
    im.save(b, fmt, **kw)
    decode(f"{fmt} {name}", b.getvalue())
    return b.getvalue()


def picture(w, h, channels):
    kind = rnd.randrange(4)
    if kind == 3:  # blocks: rows equal to the one above
        k = rnd.randint(2, 9)
        a = np.random.randint(0, 256, (h // k + 1, w // k + 1, channels)).repeat(k, 0).repeat(k, 1)[:h, :w]
    elif kind == 0:
        a = np.random.randint(0, 256, (h, w, channels))
    elif kind == 1:
        y, x = np.mgrid[0:h, 0:w]
        a = np.stack([(x * (c + 3) + y * 5) >> 1 & 255 for c in range(channels)], -1)
    else:
        a = np.random.randint(0, 2, (h, w, channels)) * 255
    return a.astype(np.uint8)


def chunk(tag, body):
    return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))


def raw_png(w, h, depth, colour, rows, before=b"", after=b"", interlace=0):
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, interlace)) + before
            + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + r for r in rows))) + after + chunk(b"IEND", b""))


def interlaced(a):
    """Adam7 by hand: Pillow does not write it."""
    rows = []
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        sub = a[y0::dy, x0::dx]
        if sub.shape[0] and sub.shape[1]:
            rows += [r.tobytes() for r in sub]
    return raw_png(a.shape[1], a.shape[0], 8, {1: 0, 2: 4, 3: 2, 4: 6}[a.shape[2]], rows, interlace=1)


def orientation_block(endian, kind, value, more=b""):
    """A TIFF header and a directory of two entries, the second the orientation."""
    e = endian
    field = struct.pack(e + {3: "Hxx", 4: "I", 9: "i"}[kind], value)
    return ((b"II*\0" if e == "<" else b"MM\0*") + struct.pack(e + "IH", 8, 2) + struct.pack(e + "HHII", 0x10F, 2, 1, 0)
            + struct.pack(e + "HHI", 0x112, kind, 1) + field + struct.pack(e + "I", 0) + more)


def pngs(w, h):
    rgb, rgba, g = picture(w, h, 3), picture(w, h, 4), picture(w, h, 1)[:, :, 0]
    im = Image.fromarray(rgb)
    save("rgb", im, "PNG")
    save("rgba", Image.fromarray(rgba, "RGBA"), "PNG")
    save("gray", Image.fromarray(g), "PNG")
    save("gray alpha", Image.fromarray(picture(w, h, 2), "LA"), "PNG")
    save("1 bit", Image.fromarray(g).convert("1"), "PNG")
    for colours in (2, 4, 16, 200):
        p = im.quantize(colours)
        save(f"palette {colours}", p, "PNG")
        save(f"palette {colours} alpha", p, "PNG", transparency=bytes(rnd.randrange(256) for _ in range(colours)))
    save("rgb with a clear colour", im, "PNG", transparency=(1, 2, 3))
    save("gray with a clear value", Image.fromarray(g), "PNG", transparency=5)
    for depth in (1, 2, 4):
        rows = [np.random.bytes((w * depth + 7) // 8) for _ in range(h)]
        decode(f"PNG gray of {depth} bits", raw_png(w, h, depth, 0, rows))
    for colour, channels in ((2, 3), (4, 2), (6, 4)):
        decode(f"PNG 16 bits, colour type {colour}",
               raw_png(w, h, 16, colour, [np.random.bytes(w * channels * 2) for _ in range(h)]))
    values = (0, 3, 200, 255, 256, 257, 40000)
    rows = [b"".join(struct.pack(">H", rnd.choice(values)) for _ in range(w)) for _ in range(h)]
    decode("PNG gray of 16 bits", raw_png(w, h, 16, 0, rows))
    if PIL13:  # older: gray, not black
        rows = [bytes(rnd.randrange(6) for _ in range(w)) for _ in range(h)]
        decode("PNG index beyond the palette", raw_png(w, h, 8, 3, rows, chunk(b"PLTE", np.random.bytes(9))))
    for channels in (1, 2, 3, 4):
        decode(f"PNG interlaced, {channels} channels", interlaced(picture(w, h, channels)))
    rows = [r.tobytes() for r in rgb]
    for endian in "<>":
        for kind in (3, 4):
            block = orientation_block(endian, kind, rnd.randint(2, 8))
            decode("PNG EXIF", raw_png(w, h, 8, 2, rows, before=chunk(b"eXIf", block)))
            decode("PNG EXIF behind the pixels", raw_png(w, h, 8, 2, rows, after=chunk(b"eXIf", block)))
    block = b"Exif\0\0" + orientation_block(">", 3, 6)
    text = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n%8d\n" % len(block) + block.hex().encode() + b"\n")
    decode("PNG EXIF as text", raw_png(w, h, 8, 2, rows, before=chunk(b"zTXt", text)))
    if PIL13:
        xmp = b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation=\"8\"/>"
        decode("PNG XMP", raw_png(w, h, 8, 2, rows, before=chunk(b"iTXt", xmp)))


def jpegs(w, h):
    im, g = Image.fromarray(picture(w, h, 3)), Image.fromarray(picture(w, h, 1)[:, :, 0])
    for q in (20, 75, 95):
        for sub in (0, 1, 2):
            save(f"q{q} s{sub}", im, "JPEG", quality=q, subsampling=sub, progressive=rnd.random() < 0.5)
    save("gray", g, "JPEG")
    save("CMYK", Image.fromarray(picture(w, h, 4), "CMYK"), "JPEG", quality=90)
    for o in range(10):
        exif = Image.Exif()
        exif[0x10F], exif[0x112] = "maker of the camera", o
        data = save(f"orientation {o}", im, "JPEG", exif=exif.tobytes())
    if PIL13:
        app1 = lambda b: b"\xff\xe1" + struct.pack(">H", len(b) + 2) + b
        xmp = b"http://ns.adobe.com/xap/1.0/\0<tiff:Orientation>5</tiff:Orientation>"
        plain = save("plain", im, "JPEG")
        block = orientation_block("<", 3, 7)
        decode("JPEG XMP", plain[:2] + app1(xmp) + plain[2:])
        decode("JPEG EXIF before XMP", plain[:2] + app1(xmp) + app1(b"Exif\0\0" + block) + plain[2:])
        decode("JPEG EXIF in two segments", plain[:2] + app1(b"Exif\0\0" + block[:20]) + app1(b"Exif\0\0" + block[20:]) + plain[2:])
    at = data.find(b"\xff\xdb")
    decode("JPEG with stray bytes", data[:at] + b"\0\1\2" + data[at:])


def webps(w, h):
    im, rgba = Image.fromarray(picture(w, h, 3)), Image.fromarray(picture(w, h, 4), "RGBA")
    for kw in ({"lossless": True}, {"quality": 10}, {"quality": 80}):
        save(f"rgb {kw}", im, "WEBP", **kw)
        save(f"rgba {kw}", rgba, "WEBP", **kw)
    save("exact", rgba, "WEBP", lossless=True, exact=True)
    exif = Image.Exif()
    exif[0x112] = rnd.randint(2, 8)
    save("orientation", im, "WEBP", exif=exif.tobytes())
    frames = [Image.fromarray(picture(w, h, 4), "RGBA") for _ in range(2)]
    data = save("animation", frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=50, quality=30)
    if b"ANMF" not in data:
        return  # equal frames: one picture
    # The canvas three pixels larger, the first frame moved: what it does not cover is black.
    d = bytearray(data)
    d[24:30] = struct.pack("<I", w + 2)[:3] + struct.pack("<I", h + 3)[:3]
    at = d.find(b"ANMF") + 8
    d[at:at + 6] = struct.pack("<I", 1)[:3] + struct.pack("<I", 1)[:3]
    decode("WEBP frame with an offset", bytes(d))


def gifs(w, h):
    im, rgba = Image.fromarray(picture(w, h, 3)), Image.fromarray(picture(w, h, 4), "RGBA")
    for colours in (2, 5, 16, 200):
        save(f"palette {colours}", im.quantize(colours), "GIF", interlace=1)
        save(f"clear {colours}", im.quantize(colours), "GIF", transparency=1, interlace=0)
    save("gray", Image.fromarray(picture(w, h, 1)[:, :, 0]), "GIF")
    save("1 bit", im.convert("1"), "GIF")
    frames = [Image.fromarray(picture(w, h, 4), "RGBA") for _ in range(2)]
    for disposal in range(4):
        save(f"animation {disposal}", frames[0], "GIF", save_all=True, append_images=frames[1:], disposal=disposal)
    b = io.BytesIO()
    im.quantize(16).save(b, "GIF")
    d = bytearray(b.getvalue())
    at = 13 + (6 << (d[10] & 7))  # behind the palette; extensions come before the frame
    while d[at:at + 1] == b"!":
        at += 2
        while d[at]:
            at += d[at] + 1
        at += 1
    assert d[at:at + 5] == b",\0\0\0\0"
    d[at + 1:at + 5] = struct.pack("<HH", rnd.randrange(9), rnd.randrange(9))
    decode("GIF frame beyond the screen", bytes(d))
    d[6:10] = struct.pack("<HH", w + 15, h + 12)
    decode("GIF frame with an offset", bytes(d))
    clear = b"!\xf9\4" + bytes([1, 0, 0, rnd.randrange(2)]) + b"\0"
    decode("GIF frame with an offset, clear", bytes(d[:at] + clear + d[at:]))
    d[10] &= 0x7F
    decode("GIF without a palette", bytes(d[:13] + d[13 + (6 << (b.getvalue()[10] & 7)):]))


def refused():
    b = io.BytesIO()
    Image.fromarray(picture(40, 30, 3)).save(b, "JPEG")
    jpeg = b.getvalue()
    at = jpeg.find(b"\xff\xc0") + 5
    put(4, "JPEG of 65000x65000", blob(jpeg[:at] + struct.pack(">HH", 65000, 65000) + jpeg[at + 4:]))
    put(4, "JPEG of 13000x13000 in few bytes", blob(jpeg[:at] + struct.pack(">HH", 13000, 13000) + jpeg[at + 4:]))
    put(4, "JPEG cut", blob(jpeg[:-40]))
    put(4, "PNG of 30000x5000 in few bytes", blob(raw_png(30000, 5000, 8, 2, [b"\0"])))
    put(4, "PNG without rows", blob(raw_png(10, 10, 8, 2, [])))
    put(4, "PNG of bomb size", blob(raw_png(32768, 32768, 8, 2, [bytes(3 * 32768)] * 40)))
    put(4, "GIF of 10000x10000 in few bytes", blob(b"GIF89a" + struct.pack("<HH", 10000, 10000) + b"\0\0\0,"
                                                  + struct.pack("<4H", 0, 0, 10000, 10000) + b"\0\2\2\x4c\1\0;"))
    put(4, "GIF of 65535x65535", blob(b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\1\0\1\0\0\2\2\x44\1\0;"))
    put(4, "GIF without a picture", blob(b"GIF89a\1\0\1\0\0\0\0;"))
    b = io.BytesIO()
    Image.fromarray(picture(40, 30, 3)).save(b, "WEBP")
    put(4, "WebP cut", blob(b.getvalue()[:-9]))


# ---- resizing


def draw(w, h, kind, seed):
    y, x, c = np.mgrid[0:h, 0:w, 0:3].astype(np.uint32)
    i = ((y // 5) * 4099 + x // 5 if kind == 2 else y * 4099 + x) * 3 + c
    v = (i * np.uint32(2654435761)) + np.uint32(seed * 40503 & 0xFFFFFFFF)
    v = (v ^ v >> 15) * np.uint32(2246822519)
    v = (v ^ v >> 13) >> 8 & 255
    if kind == 1:
        v = (v & 1) * 255
    if kind == 3:
        v = (x * (c + 3) + y * 5 + v // 16) >> 1
    return (v & 255).astype(np.uint8)


def resize(variant, a, W, H, f):
    h, w = a.shape[:2]
    im = Image.fromarray(a)
    if variant == 0:  # Pillow before 13: across, then down
        return np.asarray(im.resize((W, h), f).resize((W, H), f) if PIL13 else im.resize((W, H), f))
    if variant == 1:
        return np.asarray(im.resize((W, H), f))
    mode = {2: InterpolationMode.BILINEAR, 3: InterpolationMode.BICUBIC}[f]
    return tv.resize(torch.from_numpy(a).permute(2, 0, 1), [H, W], interpolation=mode, antialias=True).permute(1, 2, 0).numpy()


def resizes(n, largest):
    for i in range(n):
        w, h, W, H = (rnd.choice((rnd.randint(1, 12), rnd.randint(1, largest // 4), rnd.randint(1, largest))) for _ in range(4))
        W, H = w if rnd.random() < 0.1 else W, h if rnd.random() < 0.1 else H
        if rnd.random() < 0.2:  # near its size, as the processor asks for
            W, H = max(1, round(w / 28)) * 28, max(1, round(h / 28)) * 28
        kind, f = rnd.randrange(4), rnd.choice((3, 3, 3, 2, 4))
        a = draw(w, h, kind, i)
        for variant in range(3):
            if (variant == 1 and not PIL13) or (variant == 2 and (not torch or f == 4 or W * H == 1)):
                continue  # torch asserts on a result of one pixel
            put(2, f"resize {i}", struct.pack("<8I", f, variant, kind, i, w, h, W, H) + digest(resize(variant, a, W, H, f)))


# ---- the processor

CONFIGS = (
    {"min_pixels": 3136, "max_pixels": 12845056},
    {},
    {"patch_size": 16, "size": {"shortest_edge": 65536, "longest_edge": 16777216}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    {"size": {"shortest_edge": 784, "longest_edge": 5000}, "min_pixels": 3136},
    {"min_pixels": 784, "max_pixels": 7000, "resample": 2, "merge_size": 1, "temporal_patch_size": 3, "patch_size": 7},
)


def processors(name, data, configs):
    if not torch:
        return
    # Without its notes: transformers 5.23's Pil backend paints white what equals a noted transparent colour, which neither
    # its torchvision backend nor older releases do with a path.
    im = Image.fromarray(np.asarray(upright(data)))
    if max(im.size) > 200 * min(im.size):
        return
    for config in configs:
        nested = rnd.random() < 0.3
        text = json.dumps({"image_processor": config} if nested else config)
        for variant, cls in ((1, Qwen2VLImageProcessorPil), (2, Qwen2VLImageProcessor)):
            got = cls(**config)(images=[im], return_tensors="pt")
            put(3, name, struct.pack("<I", variant) + blob(text) + blob(data)
                + struct.pack("<3I", *got["image_grid_thw"][0].tolist()) + digest(got["pixel_values"].numpy()))


def real_files(paths):
    seen = set()
    for path in paths:
        data = open(path, "rb").read()
        name = hashlib.sha256(data).digest()
        if name in seen:
            continue
        seen.add(name)
        try:
            im = Image.open(io.BytesIO(data))
            if im.format not in ("PNG", "JPEG", "MPO", "WEBP", "GIF"):
                continue
            upright(data)
        except Exception as e:
            print(f"{path}: {e}")  # Pillow refuses it too
            continue
        decode(path, data)
        if torch and (len(seen) % 16 == 0 or im.format != "PNG") and im.width * im.height < 1 << 22:
            processors(path, data, (CONFIGS[len(seen) % 3],))


def again(path):
    data, at, kept = open(path, "rb").read(), 0, []

    def take():
        nonlocal at
        n = struct.unpack_from("<I", data, at)[0]
        at += 4 + n
        return data[at - n:at]

    take()
    while data[at]:
        kind, at = data[at], at + 1
        name = take().decode()
        if kind == 1:
            at += 8
            file = take()
            at += 16
            if name.startswith("given"):
                kept.append((name, file))
        elif kind == 2:
            at += 48
        elif kind == 3:
            at += 4
            take(), take()
            at += 28
        else:
            take()
    return kept


args = argparse.ArgumentParser()
args.add_argument("out")
args.add_argument("--resizes", type=int, default=120)
args.add_argument("--largest", type=int, default=160)
args.add_argument("--pictures", type=int, default=1)
args.add_argument("--files")
args.add_argument("--again")
args = args.parse_args()
given = again(args.again) if args.again else []
out = open(args.out + ".new", "wb")
out.write(blob(f"Pillow {PIL.__version__}" + (f", torchvision {torchvision.__version__}, transformers {transformers.__version__}"
                                              if torch else "")))
for name, file in given:
    decode(name, file)
for _ in range(args.pictures):
    small = args.pictures == 1
    for make in (pngs, jpegs, webps, gifs):
        make(rnd.randint(13, 21) if small else rnd.randint(1, 90), rnd.randint(13, 21) if small else rnd.randint(1, 90))
refused()
resizes(args.resizes, args.largest)
for k, (w, h, fmt) in enumerate(((57, 43, "PNG"), (20, 90, "JPEG"), (130, 89, "JPEG"))):
    b = io.BytesIO()
    Image.fromarray(draw(w, h, 3, k)).save(b, fmt)
    processors(f"processor {w}x{h} {fmt}", b.getvalue(), CONFIGS)
if args.files:
    real_files(line.rstrip("\n") for line in open(args.files))
out.write(b"\0")
out.close()
os.replace(args.out + ".new", args.out)
