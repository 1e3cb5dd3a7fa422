# expect: OK
# text: (120, 80) RGB True /tmp/input_image.jpg\n
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: input_image.jpg
from PIL import Image
im = Image.open('input_image.jpg')
d = np.abs(np.array(im).astype(int) - np.array(input_image)).max()
print(im.size, im.mode, d < 60, input_image_path)
