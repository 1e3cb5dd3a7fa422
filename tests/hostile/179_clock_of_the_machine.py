# why: neither set nor stopped
# expect: OK
# text: EPERM EPERM EPERM
print(errno_of(time.clock_settime, time.CLOCK_REALTIME, 0), errno_of(call, 'adjtimex', bytes(208)),
      errno_of(call, 'settimeofday', (ctypes.c_long * 2)(0, 0), 0))
