# why: a thread that notices it was stopped, and then speaks while the state is woken to fork for the next turn
# expect: OK|PROTOCOL
# after: any
# T2 expect: PY_ERROR
# T2 has: can't start new thread
import mmap
import struct

code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex(  # spins until the time-stamp counter jumps by 3e6, then write(3, rdi, 24), write(4, rdi, 24) for ever
    '4889fb0f3148c1e2204809d04989c00f3148c1e2204809d04989c14c29c04d89c8483dc0c62d0072e6'
    'b801000000bf030000004889deba180000000f05b801000000bf040000004889deba180000000f05ebd6'))
greeting = ctypes.create_string_buffer(struct.pack('<IIIIQ', OP_HELLO, 0, 0, 0, 0))
f = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
threading.stack_size(65536)
threading.Thread(target=f, args=(ctypes.addressof(greeting),), daemon=True).start()
# %%
# pause: 0.1
# expect: OK|PROTOCOL|DEAD
# T2 expect: OK
print('here')
