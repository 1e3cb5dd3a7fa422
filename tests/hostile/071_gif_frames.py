# why: many frames, each small
# expect: TIMEOUT_SOFT|TIMEOUT_HARD|PY_ERROR|OOM
import io
from PIL import Image

frames = [Image.new('P', (2000, 2000), i) for i in range(12)]
b = io.BytesIO()
frames[0].save(b, 'GIF', save_all=True, append_images=frames[1:] * 5)
b.seek(0)
im = Image.open(b)
kept = []
for i in range(im.n_frames):
    im.seek(i)
    kept.append(im.convert('RGB'))
