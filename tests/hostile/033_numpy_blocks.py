# why: the same through numpy
# expect: PY_ERROR
# has: MemoryError
x = [np.ones((1024, 8192)) for i in range(64)]
