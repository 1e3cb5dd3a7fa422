# why: what a program finds
# expect: OK
# text: True
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: PermissionError
import subprocess

out = subprocess.run(['/usr/bin/env'], capture_output=True, text=True, env=None).stdout
print('TRAINER' not in out and 'PATH=' in out)
print(subprocess.run(['/usr/bin/env'], capture_output=True, text=True, env={'LD_PRELOAD': '/tmp/x.so', 'A': 'b'}).stdout.count('TRAINER') if 0 else '', end='')
