"""Cases for test_image.c made with Pillow: encoded pictures with the RGB Pillow makes of them, and resizes.

Writes one stream of records: u8 kind, then  1 = decode: u32 w, h, n encoded, n rgb; encoded; rgb
2 = resize: u32 filter, w, h, W, H; rgb in; rgb out   0 = end.
"""
import io
import random
import struct
import sys

try:
    import numpy as np
    import PIL
    from PIL import Image, ImageOps
except ImportError as e:
    print(e, file=sys.stderr)
    sys.exit(77)

out = open(sys.argv[1], "wb")
rnd = random.Random(7)
np.random.seed(7)


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


def write_decode(data, w, h, rgb):
    out.write(struct.pack("<B4I", 1, w, h, len(data), len(rgb)) + data + rgb)


def emit_decode(data):
    im = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    write_decode(data, im.width, im.height, im.tobytes())


def save(im, fmt, **kw):
    b = io.BytesIO()
    im.save(b, fmt, **kw)
    emit_decode(b.getvalue())


def chunk(tag, body):
    import zlib
    return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))


def raw_png(w, h, depth, colour, rows, extra=b""):
    import zlib
    body = b"".join(b"\0" + r for r in rows)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, 0)) + extra
            + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b""))


for _ in range(12):
    w, h = rnd.randint(1, 60), rnd.randint(1, 60)
    rgb, rgba, g = picture(w, h, 3), picture(w, h, 4), picture(w, h, 1)[:, :, 0]
    im = Image.fromarray(rgb)
    save(im, "PNG")
    save(im, "PNG", optimize=True)
    save(Image.fromarray(rgba, "RGBA"), "PNG")
    save(Image.fromarray(g), "PNG")
    save(Image.fromarray(picture(w, h, 2), "LA"), "PNG")
    save(Image.fromarray(g).convert("1"), "PNG")
    for colours in (2, 4, 16, 200):
        p = im.quantize(colours)
        save(p, "PNG")
        save(p, "PNG", transparency=bytes(rnd.randrange(256) for _ in range(colours)))
    save(im, "PNG", transparency=(1, 2, 3))
    save(Image.fromarray(g), "PNG", transparency=5)
    for q in (20, 75, 95):
        for sub in (0, 1, 2):
            save(im, "JPEG", quality=q, subsampling=sub)
            save(im, "JPEG", quality=q, subsampling=sub, progressive=True)
    save(Image.fromarray(g), "JPEG")
    save(Image.fromarray(rgba, "CMYK"), "JPEG", quality=90)
    for depth in (1, 2, 4):
        stride = (w * depth + 7) // 8
        emit_decode(raw_png(w, h, depth, 0, [bytes(rnd.randrange(256) for _ in range(stride)) for _ in range(h)]))
    for colour, channels in ((2, 3), (4, 2), (6, 4)):
        rows = [bytes(rnd.randrange(256) for _ in range(w * channels * 2)) for _ in range(h)]
        emit_decode(raw_png(w, h, 16, colour, rows))
    values = (0, 3, 200, 255, 256, 257, 40000)
    rows = [b"".join(struct.pack(">H", rnd.choice(values)) for _ in range(w)) for _ in range(h)]
    emit_decode(raw_png(w, h, 16, 0, rows))
    # Three colours, indices beyond them: black in Pillow 13, gray in 9, so not left to the version at hand.
    pal, index = bytes(rnd.randrange(256) for _ in range(9)), [[rnd.randrange(6) for _ in range(w)] for _ in range(h)]
    data = raw_png(w, h, 8, 3, [bytes(r) for r in index], chunk(b"PLTE", pal))
    write_decode(data, w, h, b"".join((pal + bytes(9))[3 * i:3 * i + 3] for r in index for i in r))
    exif = Image.Exif()
    for fmt in ("JPEG", "PNG", "WEBP"):
        exif[0x112] = rnd.randrange(10)  # orientation
        save(im, fmt, exif=exif.tobytes())
    for kw in ({}, {"lossless": True}):
        save(im, "WEBP", quality=rnd.randrange(101), **kw)
        save(Image.fromarray(rgba, "RGBA"), "WEBP", **kw)
    frames = [Image.fromarray(picture(w, h, 4), "RGBA") for _ in range(3)]
    for fmt in ("GIF", "WEBP"):
        save(frames[0], fmt, save_all=True, append_images=frames[1:], duration=50)
    for colours in (2, 16, 200):
        save(im.quantize(colours), "GIF", interlace=colours & 1)
        save(im.quantize(colours), "GIF", transparency=1)

def interlaced(a):
    """Adam7 by hand: Pillow does not write it."""
    import zlib
    h, w = a.shape[:2]
    body = b""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    for x0, y0, dx, dy in passes:
        sub = a[y0::dy, x0::dx]
        if sub.shape[0] and sub.shape[1]:
            body += b"".join(b"\0" + r.tobytes() for r in sub)
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[a.shape[2]]
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, colour, 0, 0, 1))
            + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b""))


for channels in (1, 2, 3, 4):
    for w, h in ((1, 1), (7, 3), (33, 40)):
        emit_decode(interlaced(picture(w, h, channels)))


def emit_resize(a, W, H, f):
    h, w = a.shape[:2]
    im = Image.fromarray(a)
    if int(PIL.__version__.split(".")[0]) >= 13:  # its order of passes varies: ask one by one
        im = im.resize((W, h), f)
    r = im.resize((W, H), f)
    out.write(struct.pack("<B5I", 2, f, w, h, W, H) + a.tobytes() + r.tobytes())


for f in (2, 3, 4):
    for _ in range(150):
        w, h, W, H = (rnd.choice((1, 2, rnd.randint(1, 40), rnd.randint(1, 160))) for _ in range(4))
        if rnd.random() < 0.15:
            W = w
        if rnd.random() < 0.15:
            H = h
        emit_resize(picture(w, h, 3), W, H, f)
    for k in range(1, 14):  # whole reductions
        W, H = rnd.randint(1, 20), rnd.randint(1, 20)
        emit_resize(picture(W * k, H * rnd.randint(1, 9), 3), W, H, f)
    emit_resize(picture(672, 672, 3), 84, 84, f)
    emit_resize(picture(640, 480, 3), 644, 476, f)
out.write(b"\0")
