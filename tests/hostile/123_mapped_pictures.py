# why: the pictures' pages mapped and given back while they are read: a hole reads as zeros
# expect: OK
# images: 1
# text: EPERM EFBIG
import mmap

m = mmap.mmap(5, 1 << 20)
m[:4096] = b'x' * 4096
show(np.full((8, 8), 9, np.uint8))
libc.syscall(NR['fallocate'], 5, 3, ctypes.c_long(0), ctypes.c_long(64 << 20))
print(errno_of(os.ftruncate, 5, 0), errno_of(os.ftruncate, 5, 1 << 30))
