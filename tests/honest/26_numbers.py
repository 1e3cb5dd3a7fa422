# expect: OK
# text: [-1.0, 2.0] True [2.0, 3.0] 4.0\n
import math, cmath, decimal
a = np.array([[1.0, 2.0], [3.0, 5.0]])
q = np.linalg.solve(a, np.array([3.0, 7.0]))
u, s, v = np.linalg.svd(a)
print([round(float(x), 6) for x in q], np.allclose(u @ np.diag(s) @ v, a), np.round(np.roots([1, -5, 6]), 6)[::-1].tolist(), float(np.fft.fft([1, 1, 1, 1]).real[0]))
# %%
# expect: OK
# text: 0.30 2j 2432902008176640000 3.142 1e+16\n
print(decimal.Decimal('0.1') + decimal.Decimal('0.20'), cmath.sqrt(-4), math.factorial(20), f'{math.pi:.3f}', 1e16)
# %%
# expect: OK
# text: 14.0 [[0, 1], [2, 3]] int64\n
b = np.arange(4).reshape(2, 2)
print(np.einsum('ij,jk->ik', b, b).trace() + 1.0, b.tolist(), b.dtype)
