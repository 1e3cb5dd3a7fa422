# why: what replaces the interpreter has not finished the turn
# expect: EXITED 0
# text: 1
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: PermissionError
os.execv('/usr/bin/python3', ['python3', '-c', 'print(1)'])
