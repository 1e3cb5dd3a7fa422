# why: as many files as there may be, linked and sparse, undone within the clock
# expect: OK|TIMEOUT_SOFT
# after: any
# T2 expect: PY_ERROR
# T2 has: PermissionError
for i in range(1500):
    open(f'/tmp/{i * 7919 % 1501}', 'w').write(str(i))
with open('/tmp/big', 'wb') as f:
    for i in range(1000):
        f.seek(i * 8192)
        f.write(b'x')
for i in range(200):
    os.link('/tmp/big', f'/tmp/link{i}')
# %%
# expect: PY_ERROR
for n in os.listdir('/tmp'):
    os.rename('/tmp/' + n, '/tmp/_' + n)
1 / 0
# %%
# expect: OK|DEAD
# T2 expect: OK
print(1)
