# why: /dev/shm is the box's own /tmp
# expect: OK
# text: ok
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: PermissionError
from multiprocessing import shared_memory

try:
    s = shared_memory.SharedMemory('box', create=True, size=1 << 20)
    print('ok' if os.listdir('/tmp') == ['box'] and errno_of(open, '/dev/shm/../../etc/passwd') == 'ENOENT' else 'bad')
    s.close()
except OSError as e:
    raise PermissionError(str(e))
