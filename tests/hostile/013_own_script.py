# why: files in /tmp are not executable
# expect: OK
# text: EACCES
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: PermissionError
open('/tmp/x.sh', 'w').write('#!/bin/sh\necho ran\n')
os.chmod('/tmp/x.sh', 0o755)
print(errno_of(os.execv, '/tmp/x.sh', ['x']))
