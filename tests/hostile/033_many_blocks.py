# why: too much in small pieces
# expect: PY_ERROR
# has: MemoryError
x = [bytearray(1 << 20) for i in range(4096)]
