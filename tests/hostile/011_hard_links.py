# why: a set-uid program under a name of one's own would survive an update
# expect: OK
# text: EXDEV EXDEV
# T2 text: EPERM EPERM
print(errno_of(os.link, '/usr/bin/su', '/tmp/su'), errno_of(os.link, '/dev/null', '/tmp/null'))
