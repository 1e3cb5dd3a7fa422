# why: the tree is the machine's
# expect: OK
# text: EXDEV EROFS EACCES EROFS EROFS EROFS
# T2 text: EACCES EPERM EPERM EPERM EACCES EACCES
e = '/usr/bin/env'
print(errno_of(os.rename, e, '/tmp/env'), errno_of(os.chmod, e, 0o777), errno_of(os.truncate, e, 0),
      errno_of(os.utime, e), errno_of(os.unlink, e), errno_of(os.mkdir, '/usr/x'))
