# why: a thread in vfork cannot be stopped until its child is gone: the turn's end must not wait for it
# expect: PROTOCOL
# T2 expect: PY_ERROR
# T2 has: can't start new thread
import mmap

m = mmap.mmap(-1, 4096, prot=7)
m.write(bytes.fromhex('b83a0000000f0585c07401c3b8220000000f05ebf7'))  # vfork; in the child: pause for ever
code = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(m)))
t = threading.Thread(target=code, daemon=True)
t.start()
time.sleep(0.1)
print('in vfork')
