# expect: OK
# text: crop (40, 35) zoomed (160, 140) darkest 0\n
# images: 1
crop = input_image.crop((0, 0, 40, 35))
zoomed = crop.resize((crop.width * 4, crop.height * 4), resample=3)
print('crop', crop.size, 'zoomed', zoomed.size, 'darkest', min(zoomed.convert('L').getdata()))
show(zoomed)
# %%
# expect: OK
# text: (120, 80)\n
# images: 0
input_image.size
# %%
# expect: OK
# images: 1
# text: -
from PIL import Image
w, h = input_image.size
left, top, right, bottom = [int(v) for v in (0.4 * w, 0.3 * h, 0.6 * w, 0.9 * h)]
input_image.crop((left, top, right, bottom)).resize((240, 480), Image.LANCZOS)
