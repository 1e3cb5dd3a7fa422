# why: the same through OpenCV's own decoders, which are C++ without Pillow's checks
# needs: cv2
# expect: OK|SIGNAL
import io
import random
import cv2
from PIL import Image

random.seed(2)
src = np.ascontiguousarray((np.arange(48 * 64 * 3) * 7 % 251).astype(np.uint8).reshape(48, 64, 3))
n = 0
end = time.monotonic() + 0.8
for kind in ('.png', '.jpg', '.tiff', '.webp', '.bmp', '.ppm', '.jp2', '.hdr', '.pbm', '.sr', '.exr'):
    try:
        whole = cv2.imencode(kind, src)[1].tobytes()
    except cv2.error:
        continue
    for k in range(40):
        data = np.frombuffer(whole[:random.randrange(1, len(whole))] if k % 2 else whole, np.uint8).copy()
        for i in range(k % 5 * 3):
            data[random.randrange(min(len(data), 200))] = random.randrange(256)
        if time.monotonic() > end:
            break
        n += 1
        try:
            cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        except (cv2.error, MemoryError):
            pass
print(n > 50)
