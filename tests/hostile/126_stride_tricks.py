# why: numpy writes where it is told
# expect: SIGNAL|EXITED|PROTOCOL|PY_ERROR
a = np.lib.stride_tricks.as_strided(np.zeros(8), shape=(1 << 28,), strides=(4096,))
a[:] = 1
