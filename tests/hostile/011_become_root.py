# why: no id is to be had
# expect: OK
# text: EPERM EPERM EPERM EPERM EPERM
print(*[errno_of(call, n, 0, 0, 0) for n in ('setuid', 'setgid', 'setreuid', 'setresuid', 'capset')])
