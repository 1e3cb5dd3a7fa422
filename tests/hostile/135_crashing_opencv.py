# why: native code that writes beyond its array
# needs: cv2
# expect: SIGNAL|PY_ERROR|EXITED|PROTOCOL
import cv2

a = np.lib.stride_tricks.as_strided(np.zeros((4, 4, 3), np.uint8), shape=(9000, 9000, 3), strides=(65536, 3, 1))
cv2.rectangle(a, (0, 0), (8999, 8999), (1, 2, 3), -1)
ctypes.string_at(1)
