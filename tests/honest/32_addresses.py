# expect: OK
# has: object at 0x
class A: pass
def f(): pass
a = [A() for i in range(100)]
print(object(), a[3], f, id(a), hash(None), {A, f, len, None, 'x', 1.5, int})
print(sorted(map(id, a))[::9], {frozenset({x}) for x in a[:3]} != set())
big = np.zeros((500, 500, 30))
print(hex(big.ctypes.data), id(img) if 'img' in globals() else 0)
# %%
# expect: PY_ERROR
b = [A() for i in range(100)]
raise KeyError(id(b))
# %%
# expect: OK
# has: 0x
b = [A() for i in range(50)]
print([hex(id(x)) for x in b])
