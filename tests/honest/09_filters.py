# expect: OK
# text: (0, 0, 0) 255 [(255, 0, 0), (0, 0, 0)]\n
from PIL import ImageChops, ImageFilter, ImageStat
blurred = img.filter(ImageFilter.GaussianBlur(2)).filter(ImageFilter.MedianFilter(3))
difference = ImageChops.difference(img, blurred)
print(blurred.getpixel((20, 17)), difference.getextrema()[1][1] and 255, [c for n, c in sorted(img.getcolors())][:2])
# %%
# expect: OK
# text: [231.1, 228.4, 228.4]\n
[round(v, 1) for v in ImageStat.Stat(img).mean]
