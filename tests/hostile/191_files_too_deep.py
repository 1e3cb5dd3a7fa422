# why: what is too deep to be undone costs the state, and is not the sandbox's failure
# expect: OK
# after: any
# T2 expect: PY_ERROR
# T2 has: PermissionError
d = os.getcwd()
for i in range(60):
    os.mkdir('d')
    os.chdir('d')
os.chdir(d)
print(time.perf_counter(), os.times())
# %%
# expect: PY_ERROR
1 / 0
# %%
# expect: OK|DEAD
# T2 expect: OK
print(1)
