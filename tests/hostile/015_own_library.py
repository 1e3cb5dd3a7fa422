# why: no code from files of one's own
# expect: OK
# text: True
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: PermissionError
import _ctypes
import shutil

shutil.copy(_ctypes.__file__, '/tmp/l.so')
try:
    ctypes.CDLL('/tmp/l.so')
except OSError as e:
    print('failed to map' in str(e))
