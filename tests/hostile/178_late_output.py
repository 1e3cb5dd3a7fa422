# why: what a dying child writes is not the next turn's
# expect: OK
# T2 expect: PY_ERROR
# T2 has: PermissionError
if os.fork() == 0:
    while True:
        os.write(1, b'late\n')
        time.sleep(0.0001)
# %%
# expect: OK
# text: mine
print('mine')
# %% next box
# expect: OK
# text: mine too
print('mine too')
