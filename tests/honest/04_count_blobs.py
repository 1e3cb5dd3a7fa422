# needs: cv2
# expect: OK
# text: 3 [[10, 10, 20, 15, 300], [50, 30, 10, 40, 400], [90, 5, 20, 10, 200]]\n
import cv2
gray = cv2.cvtColor(np.array(input_image), cv2.COLOR_RGB2GRAY)
_, binary = cv2.threshold(gray, 50, 255, cv2.THRESH_BINARY_INV)
n, labels, stats, centers = cv2.connectedComponentsWithStats(binary)
print(n - 1, sorted(stats[1:].tolist()))
# %%
# expect: OK
# text: 3\n
contours, _ = cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
canvas = np.array(img)
cv2.drawContours(canvas, contours, -1, (0, 255, 0), 2)
len(contours)
