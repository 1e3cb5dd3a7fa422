# why: headers that claim what the file does not have
# expect: OK
# has: ok
import io
import struct
import zlib
from PIL import Image


def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def png(w, h, depth=8, colour=2):
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, depth, colour, 0, 0, 0)) +
            chunk(b'IDAT', zlib.compress(b'\0' * 100)) + chunk(b'IEND', b''))


files = [png(2 ** 31 - 1, 2 ** 31 - 1), png(0, 0), png(2 ** 31 - 1, 1), png(1, 2 ** 31 - 1), png(60000, 60000, 16, 6),
         b'GIF89a\xff\xff\xff\xff\xf0\0\0' + bytes(768) + b',' + b'\0\0\0\0\xff\xff\xff\xff\0\x08\xff' + bytes(300),
         b'BM' + struct.pack('<IHHIIiiHHIIiiII', 54, 0, 0, 54, 40, -5, 2 ** 31 - 1, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(99),
         b'II*\0\x08\0\0\0\x01\0\0\x01\x04\0\xff\xff\xff\xff\x08\0\0\0\x08\0\0\0',
         b'P6\n99999999 99999999\n255\n', b'RIFF\xff\xff\xff\xffWEBPVP8L\xff\xff\xff\xff/' + b'\xff' * 64,
         b'\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\x01\x22\0\x02\x11\x01\x03\x11\x01' + b'\xff\xda' + bytes(64)]
for f in files:
    try:
        Image.open(io.BytesIO(f)).convert('RGB')
    except BaseException as e:
        if isinstance(e, KeyboardInterrupt):
            raise
print('ok')
