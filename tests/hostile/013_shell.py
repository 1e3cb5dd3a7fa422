# why: a shell runs inside the box and sees what Python sees
# expect: OK
# text: EACCES 1000\nbox\n
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: PermissionError
import subprocess

open('/tmp/x.sh', 'w').write('#!/bin/sh\necho ran\n')
os.chmod('/tmp/x.sh', 0o755)
out = subprocess.run(['/bin/sh', '-c', '/tmp/x.sh; id -u; uname -n; cat /etc/shadow; kill -9 1'], capture_output=True)
print('EACCES' if b'ermission' in out.stderr else out.stderr, out.stdout.decode(), end='')
