# why: CLONE_PARENT makes children of the runner: it reaps and kills them like all others
# expect: OK
# text: True
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: PermissionError
n = 0
for i in range(12):
    r = errno_of(call, 'clone', 0x8000 | 17, 0, 0, 0, 0)
    if r == 'done 0':
        if i % 2:
            os._exit(i)
        while True:
            pass
    if r == 'EPERM':
        raise PermissionError
    n += r.startswith('done')
print(n > 5)
# %%
# expect: OK
# text: 1
print(alive)
