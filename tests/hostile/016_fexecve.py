# why: a program in memory is not to be started
# expect: OK
# text: EPERM EPERM
def make():
    try:
        fd = os.memfd_create('x')
    except PermissionError:
        fd = os.open('/tmp/x' if TIER < 2 else '/bin/true', os.O_RDWR | os.O_CREAT if TIER < 2 else os.O_RDONLY, 0o755)
    if TIER < 2:
        os.write(fd, open('/bin/true', 'rb').read())
    return fd


fd = make()
print(errno_of(os.execve, fd, ['x'], {}), errno_of(call, 'execveat', fd, b'', None, None, 0x1000))
