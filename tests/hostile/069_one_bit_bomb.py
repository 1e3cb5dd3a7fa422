# why: small file, large picture
# expect: PY_ERROR
# has: DecompressionBomb
import io
import struct
import zlib
from PIL import Image


def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


z = zlib.compressobj(9)
rows = b''.join([z.compress(bytes(1626)) for i in range(13000)] + [z.flush()])
png = (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 13000, 13000, 1, 0, 0, 0, 0)) +
       chunk(b'IDAT', rows) + chunk(b'IEND', b''))
Image.open(io.BytesIO(png)).convert('RGB')
