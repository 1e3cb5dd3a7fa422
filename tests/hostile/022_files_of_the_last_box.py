# why: another box finds an empty /tmp
# expect: OK
# text: done 1
# T2 text: EACCES
def leave():
    os.mkdir('/tmp/d')
    open('/dev/shm/y', 'w').close()
    return open('/tmp/x', 'w').write('x')


print(errno_of(leave))
# %% next box
# expect: OK
# text: [] []
# T2 text: EACCES EACCES
print(*[errno_of(os.listdir, d).replace('done ', '') for d in ('/tmp', '/dev/shm')])
