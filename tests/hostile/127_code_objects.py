# why: byte code that no compiler makes
# expect: SIGNAL|PY_ERROR|TIMEOUT_SOFT|TIMEOUT_HARD|EXITED
def f():
    return 1


import random

random.seed(4)
for i in range(200):
    f.__code__ = f.__code__.replace(co_code=bytes(random.randrange(256) for i in range(64)), co_stacksize=1)
    try:
        f()
    except Exception:
        pass
ctypes.string_at(1)
