# why: the interfaces most exploits of the last years used
# expect: OK
# text: EPERM EPERM EPERM EPERM
print(*[errno_of(call, n, 0, 0, 0, 0) for n in ('io_uring_setup', 'userfaultfd', 'bpf', 'perf_event_open')])
