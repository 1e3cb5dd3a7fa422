# expect: OK
# text: [0, 1, 1, 2, 3] 354224848179261915075 [1, 4, 9] 15\n
import contextlib, functools, io, operator
def fib():
    a, b = 0, 1
    while True:
        yield a
        a, b = b, a + b
g = fib()
@functools.lru_cache(None)
def f(n): return n if n < 2 else f(n - 1) + f(n - 2)
print([next(g) for _ in range(5)], f(100), [*map(lambda v: v * v, [1, 2, 3])], functools.reduce(operator.add, range(6)))
# %%
# expect: OK
# text: 5 3\n
def counter():
    n = 0
    def up():
        nonlocal n
        n += 1
        return n
    return up
up = counter()
up(); up()
print(next(g), up())
# %%
# expect: OK
# text: 4 caught captured\n\n
with contextlib.redirect_stdout(io.StringIO()) as s: print('captured')
def deep(n): return deep(n + 1)
try: deep(0)
except RecursionError: word = 'caught'
print(up(), word, s.getvalue())
