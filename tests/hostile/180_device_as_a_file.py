# why: devices without end
# expect: OK
# text: MemoryError True
def copy():
    import shutil
    with open('/dev/zero', 'rb') as a, open('/tmp/z', 'wb') as b:
        shutil.copyfileobj(a, b)


print(errno_of(lambda: open('/dev/zero', 'rb').read()), errno_of(copy) in ('ENOSPC', 'EFBIG', 'EACCES'))
