# why: too much at once is a MemoryError
# expect: PY_ERROR
# has: MemoryError
x = bytearray(1 << 30)
