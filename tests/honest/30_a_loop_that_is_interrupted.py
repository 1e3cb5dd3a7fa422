# expect: TIMEOUT_SOFT
import signal
x, n = 1, 0
signal.raise_signal(signal.SIGINT) if n else None
while True: n += 1
# %%
# expect: PY_ERROR
# has: NameError
x
