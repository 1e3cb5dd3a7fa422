# why: names may be set and nothing else
# expect: OK
# text: [15, 16]
ok = []
for o in list(range(1, 80)) + [0x59616d61]:
    e = errno_of(call, 'prctl', o, ctypes.create_string_buffer(64) if o in (15, 16) else 0, 0, 0, 0)
    if e != 'EPERM':
        ok.append(o)
print(ok)
