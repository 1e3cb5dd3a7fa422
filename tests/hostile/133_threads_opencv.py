# why: OpenCV's pool of threads in a process that forks
# needs: cv2
# expect: OK
# T2 expect: OK|SIGNAL|PY_ERROR|EXITED
import cv2

cv2.setNumThreads(8)
a = np.random.rand(600, 600).astype(np.float32)
cv2.GaussianBlur(a, (31, 31), 0).shape
# %%
# expect: OK
# text: (600, 600)
# T2 expect: OK|PY_ERROR
# T2 text: -
import cv2

cv2.GaussianBlur(np.zeros((600, 600), np.float32), (31, 31), 0).shape
