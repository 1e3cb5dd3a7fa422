# why: the state left to die when it is woken for the next turn: its end is told, and is not taken for the sandbox's failure
# expect: OK
# after: any
# T2 expect: PY_ERROR
# T2 has: can't start new thread
import mmap

threading.stack_size(65536)
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex('b82300000031f60f05b8e7000000bf070000000f05'))  # nanosleep(rdi, 0), exit_group(7)
f = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
ts = (ctypes.c_long * 2)(0, 700000000)
ballast = bytearray(b'x') * (60 << 20)  # a slow fork: the threads are first
for i in range(12):
    threading.Thread(target=f, args=(ctypes.addressof(ts),), daemon=True).start()
# %%
# pause: 1
# expect: OK|EXITED
# T2 expect: OK
print('here')
