# needs: sympy
# expect: OK
# text: [-2, 2] x**3/3 5/6 {x: 2, y: 1}\n
import sympy as sp
x, y = sp.symbols('x y')
print(sp.solve(x**2 - 4, x), sp.integrate(x**2, x), sp.Rational(1, 2) + sp.Rational(1, 3), sp.solve([x + y - 3, x - y - 1], [x, y]))
# %%
# expect: OK
# text: (x - 1)*(x + 1)\n
sp.factor(x**2 - 1)
