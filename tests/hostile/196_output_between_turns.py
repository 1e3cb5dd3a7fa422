# why: a thread that writes whenever it is awake: what it says while the state forks is at most this box's
# expect: OK|OUTPUT
# after: any
# T2 expect: PY_ERROR
# T2 has: can't start new thread
import mmap

code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex('4889fb0f3148c1e2204809d04989c00f3148c1e2204809d04989c14c29c04d89c8483dc0c62d0072e6'
                         'b801000000bf010000004889deba050000000f05ebea'))  # the same, then write(1, rdi, 5)
text = ctypes.create_string_buffer(b'late\n')
f = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
threading.stack_size(65536)
threading.Thread(target=f, args=(ctypes.addressof(text),), daemon=True).start()
# %%
# pause: 0.1
# expect: OK|OUTPUT
# after: any
# T2 expect: OK
print('mine')
# %% next box
# expect: OK
# text: mine too
print('mine too')
