# why: limits are inherited by programs, too
# expect: OK
# text: 0 256 24 True
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: PermissionError
import subprocess

out = subprocess.run(['/bin/bash', '-c', 'ulimit -c; ulimit -n; ulimit -u; ulimit -v'], capture_output=True, text=True)
c, n, u, v = out.stdout.split()
print(c, n, u, v.isdigit())
