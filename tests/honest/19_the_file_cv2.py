# needs: cv2
# expect: OK
# text: (80, 120, 3) [0, 0, 255] 3\n
# T2 expect: PY_ERROR
# T2 text: -
import cv2
input_image.paste((0, 255, 0), (0, 0, 120, 80))
bgr = cv2.imread(input_image_path)
red = bgr[55, 75]
hsv = cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)
print(bgr.shape, (red > 128).astype(int).dot(255 * np.eye(3, dtype=int)).tolist(), bgr.ndim)
# %%
# expect: OK
# text: True (40, 60, 3) True\n
# T2 expect: PY_ERROR
# T2 text: -
small = cv2.resize(bgr, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
cv2.putText(small, 'x', (5, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1)
ok = cv2.imwrite('small.png', small)
print(ok, cv2.imread('small.png').shape, bool((cv2.imdecode(cv2.imencode('.png', small)[1], 1) == small).all()))
