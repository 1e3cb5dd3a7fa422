# why: not needed, and its objects outlive processes
# expect: OK
# text: EPERM EPERM EPERM EPERM
print(*[errno_of(call, n, 1, 4096, 0o1600) for n in ('shmget', 'msgget', 'semget', 'mq_open')])
