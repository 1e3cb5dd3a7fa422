# why: sizes beyond memory, matrices on addresses of one's own
# needs: cv2
# expect: OK
# text: error error error error
import cv2


def says(f, *a, **k):
    try:
        f(*a, **k)
    except (cv2.error, MemoryError):
        return 'error'
    return 'done'


one = np.zeros((2, 2, 3), np.uint8)
print(says(cv2.resize, one, (60000, 60000)), says(cv2.copyMakeBorder, one, 1 << 30, 1 << 30, 0, 0, 0),
      says(cv2.imdecode, np.zeros(0, np.uint8), 1), says(cv2.warpAffine, one, np.eye(2, 3), (1 << 16, 1 << 16)))
