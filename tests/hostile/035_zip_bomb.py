# why: small data that grow a hundred times
# expect: PY_ERROR|OOM|TIMEOUT_SOFT|TIMEOUT_HARD
import zlib

z = zlib.compress(bytes(50 << 20), 9)
x = [zlib.decompress(z) for i in range(100)]
