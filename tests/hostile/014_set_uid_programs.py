# why: su, mount and unshare have no right here
# expect: OK
# text: True True True True
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: PermissionError
import subprocess


def fails(*a):
    return subprocess.run(a, stdin=subprocess.DEVNULL, capture_output=True).returncode != 0


print(fails('su', '-c', 'true'), fails('mount', '-t', 'tmpfs', 'x', '/tmp'), fails('unshare', '-r', 'true'),
      fails('nsenter', '-t', '1', '-m', 'true'))
