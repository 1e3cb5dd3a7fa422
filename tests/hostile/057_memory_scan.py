# why: the secret is in no object and in no page of this process
# expect: OK
# text: [] 0
import gc

key = 'SEC' + 'RET'
found = [o for o in gc.get_objects() if isinstance(o, (str, bytes)) and key in repr(o)]
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, 'environ')
hits, i = 0, 0
while environ and environ[i]:
    hits += key.encode() in environ[i]
    i += 1
print(found, hits)
