# expect: OK
# text: 3 '6\\n' 'line\\n'\n
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: PermissionError
import subprocess, sys
r = subprocess.run(['python3', '-c', 'print(2 * 3)'], capture_output=True, text=True)
s = subprocess.run('exit 3', shell=True)
print(s.returncode, repr(r.stdout), repr(subprocess.check_output(['echo', 'line'], text=True)))
