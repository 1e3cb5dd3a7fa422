"""The peer of bench_image: Pillow and the image processor of transformers, on one core, both from the file's bytes.

image_peer.py BENCH_IMAGE [FILE...]     needs transformers and torchvision. Prints a table with the ratios. Both sides get the
same files and limits and run in turn; the figure is the least CPU time of several calls. Without files: photographs
that matplotlib and rust-doc install, mosaics of them at the sizes of cameras and screens, and drawings.
"""
import glob
import io
import json
import os
import subprocess
import sys
import tempfile
import time

os.environ["OMP_NUM_THREADS"] = "1"
import numpy as np
import PIL
import torch
import torchvision
import transformers
from PIL import Image, ImageOps
from transformers import Qwen2VLImageProcessor, Qwen2VLImageProcessorPil

REPEATS, ROUNDS = 7, 3
torch.set_num_threads(1)


def photographs():
    names = ["/usr/share/matplotlib/mpl-data/sample_data/grace_hopper.jpg"]
    for pattern in ("**/embedded-book/assets/verify.jpeg", "**/embedded-book/assets/f3.jpg"):
        names += sorted(glob.glob(os.path.expanduser("~/.rustup/toolchains/") + pattern, recursive=True))[:1]
    return [n for n in names if os.path.exists(n)]


def mosaic(photos, w, h):
    """Photographs side by side at their own resolution, so that a file has as many bits a pixel as theirs."""
    out, y, k = Image.new("RGB", (w, h)), 0, 0
    while y < h:
        x, row = 0, 0
        while x < w:
            im = photos[k % len(photos)]
            out.paste(im, (x, y))
            x, row, k = x + im.width, max(row, im.height), k + 1
        y += row
    return out


def make_files(folder):
    found = photographs()
    if not found:
        sys.exit("no photographs are installed here: name files")
    photos, files = [Image.open(n).convert("RGB") for n in found], list(found)

    def save(name, im, **kw):
        files.append(os.path.join(folder, name))
        im.save(files[-1], **kw)

    for w, h in ((1280, 720), (1920, 1080), (3000, 4000)):
        save(f"mosaic_{w}x{h}.jpg", mosaic(photos, w, h), quality=85)
    save("progressive_1920x1080.jpg", mosaic(photos, 1920, 1080), quality=85, progressive=True)
    save("mosaic_1280x720.webp", mosaic(photos, 1280, 720), quality=80)
    save("mosaic_1280x720.png", mosaic(photos, 1280, 720))
    screen = Image.new("RGB", (1280, 800), "white")
    for i in range(60):
        screen.paste((i * 37 % 256, i * 91 % 256, i * 53 % 256), (i * 97 % 1200, i * 61 % 760, i * 97 % 1200 + 90, i * 61 % 760 + 24))
    save("drawn_1280x800.png", screen)
    return files


def peer(data, processor):
    best = 1e9
    for _ in range(REPEATS):
        t = time.process_time()
        im = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        processor(images=[im], return_tensors="pt")
        best = min(best, time.process_time() - t)
    return 1e3 * best


bench = sys.argv[1]
with tempfile.TemporaryDirectory() as folder:
    files = sys.argv[2:] or make_files(folder)
    limits = {"min_pixels": 3136, "max_pixels": 12845056}
    with open(os.path.join(folder, "preprocessor_config.json"), "w") as f:
        json.dump(dict(limits, image_processor_type="Qwen2VLImageProcessor"), f)
    print(f"Pillow {PIL.__version__}, torch {torch.__version__}, torchvision {torchvision.__version__}, "
          f"transformers {transformers.__version__}; milliseconds of one core\n")
    print("| picture | to | decode | resize | patches | sum | Pillow + pil processor | ratio | sum | "
          "Pillow + torchvision processor | ratio |\n" + "|---" * 11 + "|")
    kinds = (("pil", Qwen2VLImageProcessorPil(**limits)), ("torchvision", Qwen2VLImageProcessor(**limits)))
    ratios = [[], []]
    for name in files:
        data, cells = open(name, "rb").read(), []
        for k, (kind, processor) in enumerate(kinds):
            ours, theirs = None, 1e9
            for _ in range(ROUNDS):
                run = subprocess.run([bench, kind, str(REPEATS), folder, name], check=True, capture_output=True, text=True)
                line = run.stdout.split()
                now = [float(v) for v in line[:4]]
                ours = now if ours is None else [min(a, b) for a, b in zip(ours, now)]
                theirs = min(theirs, peer(data, processor))
            ratios[k].append(theirs / ours[3])
            shown = ours if k == 0 else ours[3:]
            cells += [f"{v:.2f}" for v in shown] + [f"{theirs:.1f}", f"{theirs / ours[3]:.1f}"]
        print(f"| {os.path.basename(name)} {line[4]}x{line[5]} | {line[6]}x{line[7]} | " + " | ".join(cells) + " |", flush=True)
    print("\nratio, geometric mean: " + ", ".join(f"{kinds[k][0]} {np.exp(np.mean(np.log(r))):.1f}" for k, r in enumerate(ratios)))
