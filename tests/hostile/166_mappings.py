# why: address zero, huge pages, locked pages, sizes without end
# expect: OK
# text: none
def m(addr, size, prot, flags):
    r = libc.syscall(9, ctypes.c_long(addr), ctypes.c_long(size), prot, flags, -1, 0)
    if r < 0:
        raise OSError(ctypes.get_errno(), '')
    return r


seen = {n: errno_of(m, *a) for n, a in dict(
    zero=(0, 4096, 3, 0x32), huge=(0, 1 << 21, 3, 0x40022), endless=(0, 1 << 46, 3, 0x4022),
    locked=(0, 1 << 20, 3, 0x2022), top=(-4096, 4096, 3, 0x32)).items()}
print({n: e for n, e in seen.items() if e.startswith('done')} or 'none')
