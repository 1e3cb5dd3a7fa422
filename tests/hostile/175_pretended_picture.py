# why: an object that says it is a picture
# expect: PY_ERROR|OK
from PIL import Image


class P:
    __class__ = property(lambda self: Image.Image)
    mode = 'RGB'
    width, height = 1 << 40, -3

    def tobytes(self):
        return b'x' * 192


show(P())
