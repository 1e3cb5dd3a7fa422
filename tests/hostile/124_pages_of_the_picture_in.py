# why: pages shared by the whole group: none of the calls that drop, poison or write them reaches the file
# expect: OK
# text: True True
# after: any
p = [v for k, v in dict(img.im.unsafe_ptrs).items()][0] if isinstance(img.im.unsafe_ptrs, (list, tuple, dict)) and dict(img.im.unsafe_ptrs) else None
start = (ctypes.addressof(ctypes.c_char.from_buffer(bytearray(1))) if p is None else p) & ~4095
r = [errno_of(call, 28, start, 4096, a) for a in (9, 100, 101, 14)]
print(all(x[0] == 'E' for x in r[1:3]), img.getpixel((0, 0))[0] in (143, 0))
