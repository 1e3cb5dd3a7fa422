# expect: OK
# text: (255, 0, 0) (255, 255, 255)\n
# images: 1
from PIL import ImageDraw, ImageFont
copy = img.copy()
draw = ImageDraw.Draw(copy)
draw.rectangle([10, 10, 30, 25], outline=(255, 0, 0), width=2)
draw.text((40, 40), 'label', fill='blue', font=ImageFont.load_default())
draw.line([(0, 0), (119, 79)], fill='green')
draw.ellipse([60, 60, 80, 78], outline='purple')
print(copy.getpixel((10, 10)), img.getpixel((9, 9)))
copy
# %%
# expect: OK
# text: True\n
draw2 = ImageDraw.Draw(input_image)
draw2.rectangle([0, 0, 5, 5], fill='yellow')
input_image.getpixel((2, 2)) == (255, 255, 0)
