# why: segment registers and the vdso are the process's own
# expect: OK|SIGNAL
# after: any
for code in (0x1001, 0x1003, 0x1012, 0x2001, 0x3001):
    errno_of(call, 'arch_prctl', code, 0) if code in (0x1003,) else None
errno_of(call, 'arch_prctl', 0x1012, 0)
