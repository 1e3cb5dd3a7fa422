# why: the bit may be set and gives nothing
# expect: OK
# text: done None EACCES
# T2 text: EACCES EPERM
def make():
    open('/tmp/s', 'wb').write(open('/bin/true', 'rb').read())
    os.chmod('/tmp/s', 0o6755)


print(errno_of(make), errno_of(os.execv, '/tmp/s', ['s']))
