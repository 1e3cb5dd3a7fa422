# expect: OK
# text: (80, 120) (120, 80) (0, 0, 0)\n
# images: 4
from PIL import Image, ImageEnhance, ImageOps
turned = img.rotate(90, expand=True)
flipped = ImageOps.mirror(img)
print(turned.size, flipped.size, flipped.getpixel((119 - 10, 10)))
turned.show()
display(flipped, ImageEnhance.Contrast(img).enhance(1.5))
ImageEnhance.Sharpness(img).enhance(2.0)
