# why: a timer's SIGCONT would wake the parked state, whose threads then run between turns
# expect: OK
# text: EPERM
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: can't start new thread
count, rate = count_natively()
signal.signal(signal.SIGCONT, lambda *a: None)
event = (ctypes.c_char * 64)()
ctypes.c_int.from_buffer(event, 8).value = signal.SIGCONT
tid = ctypes.c_int()
print(errno_of(call, 'timer_create', 1, ctypes.byref(event), ctypes.byref(tid)))
spec = (ctypes.c_long * 4)(0, 2000000, 0, 2000000)
libc.syscall(223, tid, 0, ctypes.byref(spec), None)
before = count.value
# %%
# pause: 1.2
# expect: OK
# has: still
# T2 expect: PY_ERROR
# T2 has: NameError
spent = (count.value - before) / rate
print('still' if spent < 0.7 else f'ran for {spent} s')
