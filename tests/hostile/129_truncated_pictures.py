# why: cut and broken files of every format through Pillow
# expect: OK|SIGNAL
import io
import random
from PIL import Image

random.seed(1)
src = Image.fromarray((np.arange(48 * 64 * 3) * 7 % 251).astype(np.uint8).reshape(48, 64, 3))
n = bad = 0
end = time.monotonic() + 0.8
for kind in ('PNG', 'JPEG', 'GIF', 'TIFF', 'WEBP', 'BMP', 'PPM', 'TGA', 'ICO', 'JPEG2000', 'PCX', 'SGI', 'DDS'):
    b = io.BytesIO()
    try:
        src.save(b, kind)
    except Exception:
        continue
    whole = b.getvalue()
    for k in range(40):
        data = bytearray(whole[:random.randrange(len(whole))] if k % 2 else whole)
        for i in range(k % 5 * 3):
            if data:
                data[random.randrange(min(len(data), 200))] = random.randrange(256)
        if time.monotonic() > end:
            break
        try:
            n += 1
            Image.open(io.BytesIO(data)).convert('RGB').resize((8, 8))
        except Exception:
            bad += 1
print(n > 50, bad > 10)
