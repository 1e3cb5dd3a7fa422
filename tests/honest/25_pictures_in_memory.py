# expect: OK
# text: PNG (120, 80) True\nJPEG (120, 80) True\nGIF (120, 80) True\nBMP (120, 80) True\n12\n
import base64, io
from PIL import Image
for kind in 'PNG', 'JPEG', 'GIF', 'BMP':
    f = io.BytesIO()
    img.save(f, kind)
    back = Image.open(io.BytesIO(f.getvalue()))
    print(back.format, back.size, len(base64.b64encode(f.getvalue())) > 100)
print(len(base64.b64decode(base64.b64encode(b'twelve bytes'))))
# %%
# expect: OK
# text: (240, 80)\n
# images: 1
both = Image.new('RGB', (2 * img.width, img.height), 'white')
both.paste(img, (0, 0))
both.paste(img.convert('L').convert('RGB'), (img.width, 0))
print(both.size)
show(both)
