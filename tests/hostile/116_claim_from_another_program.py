# why: a program that replaced the interpreter holds no channel: it has to be kept open on purpose, and is refused then
# expect: PROTOCOL
# T2 expect: PY_ERROR
# T2 has: PermissionError
claim = find_claim()
os.set_inheritable(CHANNEL, True)
code = f'import os, time\nos.write({CHANNEL}, {claim!r})\ntime.sleep(9)'
os.execv('/usr/bin/python3', ['python3', '-S', '-c', code])
