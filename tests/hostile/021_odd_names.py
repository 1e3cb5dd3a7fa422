# why: names are bytes
# expect: OK
# text: 5
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: PermissionError
for n in (b'\xff\xfe', b'a\nb', b'-rf', b'x' * 255, b'\x1b[2J'):
    open(b'/tmp/' + n, 'w').close()
print(len(os.listdir('/tmp')))
