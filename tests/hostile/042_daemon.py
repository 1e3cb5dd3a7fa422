# why: double fork, the grandchild is killed at the turn's end
# expect: OK
# text: 0
# T2 expect: PY_ERROR
# T2 has: PermissionError
# T2 text: -
a, b = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        while True:
            pass
    os._exit(0)
os.close(b)
os.wait()[1]
# %%
# expect: OK
# text: b''
# T2 text: gone
print(os.read(a, 1) if TIER < 2 else 'gone')
