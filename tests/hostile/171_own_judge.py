# why: the function that reports the turn's end is Python, and can be another
# expect: OK
# after: any
show.__globals__['run'].__code__ = (lambda source, name: (7, 1 << 20, 'x' * 10 ** 6, 'y' * 10 ** 6, -1)).__code__
# %%
# expect: PROTOCOL|PY_ERROR|OK
# T2 expect: PROTOCOL|PY_ERROR|OK
1
