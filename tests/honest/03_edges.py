# needs: cv2
# expect: OK
# text: (80, 120) uint8 True\n
# images: 1
import cv2
gray = cv2.cvtColor(np.array(img), cv2.COLOR_RGB2GRAY)
edges = cv2.Canny(gray, 100, 200)
print(edges.shape, edges.dtype, 100 < (edges > 0).sum() < 600)
edges
