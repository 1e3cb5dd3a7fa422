# expect: OK
# has: bytes left out ...]
for i in range(20000): print('line', i)
# %%
# expect: OK
# text: fine\n
print('fine')
