# why: tracing is reading the trainer's memory
# expect: OK
# text: EPERM EPERM EPERM EPERM EPERM EPERM
print(*[errno_of(call, n, 16, TRAINER_PID, 0, 0, 0, 0) for n in
        ('ptrace', 'process_vm_readv', 'process_vm_writev', 'pidfd_getfd', 'kcmp', 'pidfd_open')])
