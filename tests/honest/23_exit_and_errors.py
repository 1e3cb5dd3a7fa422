# expect: EXIT 0
# text: before\n
x = 1
print('before')
exit()
print('after')
# %%
# expect: PY_ERROR
# text: partial\n
# has: ZeroDivisionError
x = 2
print('partial')
x / 0
# %%
# expect: OK
# text: 1\n
x
# %%
# expect: PY_ERROR
# has: EOFError
input('name? ')
# %%
# expect: EXIT 1
# has: wrong
import sys
sys.exit('wrong')
# %%
# expect: OK
# text: caught division by zero\nfinally\n
try: x / 0
except ZeroDivisionError as e: print('caught', e)
finally: print('finally')
