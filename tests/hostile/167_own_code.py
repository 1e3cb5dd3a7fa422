# why: code of one's own making is allowed (libraries do it) and stays behind the same walls
# expect: OK
# text: -1
import mmap

m = mmap.mmap(-1, 4096, prot=7)
# socket(AF_INET, SOCK_STREAM, 0) without libc
m.write(bytes.fromhex('b829000000bf02000000be0100000031d20f05c3'))
r = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(m)))()
print(-1 if r == -errno.EACCES else r)
