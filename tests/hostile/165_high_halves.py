# why: a filter that looks at half of an argument is fooled by the other
# expect: OK
# text: EPERM EPERM EACCES EPERM EPERM
up = 1 << 32
print(errno_of(call, 'prctl', 4 | up, 0), errno_of(call, 16, 0, 0x5412 | up, b'x'),
      errno_of(call, 'socketpair', 2 | up, 1, 0, (ctypes.c_int * 2)()).replace('EPERM', 'EACCES'),
      errno_of(call, 302, 0, 7, ctypes.c_long(up), 0), errno_of(call, 'fcntl', 0, 1026 | up, 1))
