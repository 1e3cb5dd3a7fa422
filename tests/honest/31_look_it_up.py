# expect: OK
# text: def area(w, h=2):\n    return w * h\n (w, h=2) area is 6\n
def area(w, h=2):
    return w * h
# the end of the function
import inspect
print(inspect.getsource(area), inspect.signature(area), 'area is', area(3))
# %%
# expect: OK
# has: Return the number of items
help(len)
# %%
# expect: OK
# text: True True\n
import os
print(callable(area), 'area' in dir() and 'area' in globals())
