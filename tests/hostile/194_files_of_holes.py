# why: copying sparse files takes the time and room of what is in them
# expect: OK
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: PermissionError
for i in range(300):
    with open(f'/tmp/s{i}', 'wb') as f:
        f.truncate(32 << 20)
        f.seek(i * 4096)
        f.write(b'x')
# %%
# expect: PY_ERROR
# has: undo this
# T2 has: -
for i in range(0, 300, 7):
    with open(f'/tmp/s{i}', 'r+b') as f:
        f.seek(20 << 20)
        f.write(b'y' * 4096)
raise KeyError('undo this')
# %%
# expect: OK
# text: True b'\\x00' 1
# T2 expect: PY_ERROR
# T2 text: -
with open('/tmp/s7', 'rb') as f:
    f.seek(20 << 20)
    y = f.read(1)
    f.seek(7 * 4096)
    print(os.stat('/tmp/s7').st_blocks <= 8, y, f.read(1).count(b'x'))
