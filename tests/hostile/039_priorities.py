# why: neighbours share the processors
# expect: OK
# text: EPERM EPERM EPERM EPERM EPERM
print(errno_of(os.nice, -5), errno_of(os.sched_setaffinity, 0, {0}), errno_of(call, 'mlockall', 1),
      errno_of(os.setpriority, 0, 0, 5), errno_of(call, 'ioprio_set', 1, 0, 0))
