# why: memory of the turn destroyed: its own end, and the state before it stays
# expect: SIGNAL|EXITED|PROTOCOL|PY_ERROR|TIMEOUT_SOFT|TIMEOUT_HARD
a = np.zeros(64)
for i in range(0, 1 << 22, 4096):
    ctypes.memset(a.ctypes.data - (1 << 20) + i, 0x41, 64)
x = [bytes(i) for i in range(10000)]
ctypes.string_at(1)
