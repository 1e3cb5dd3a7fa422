# why: nothing outside walks through them
# expect: OK|TIMEOUT_SOFT
# text:
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: PermissionError
d = os.getcwd()
for i in range(3000):
    os.mkdir('d')
    os.chdir('d')
os.chdir(d)
