# why: a limit that can be raised is none
# expect: OK
# text: ValueError ValueError ValueError ValueError EPERM EPERM
import resource as r

print(*[errno_of(r.setrlimit, k, (1 << 20, 1 << 20)) for k in (4, 6, 7, 9)], errno_of(r.prlimit, 1, 7, (9, 9)),
      errno_of(call, 'prlimit64' if 'prlimit64' in NR else 302, 0, 9, ctypes.byref((ctypes.c_ulong * 2)(1, 1)), 0))
