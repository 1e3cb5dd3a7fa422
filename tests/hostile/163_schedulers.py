# why: real-time priority starves the machine
# expect: OK
# text: EPERM EPERM EPERM EPERM
print(errno_of(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(50)),
      errno_of(call, 'sched_setattr', 0, b'\x30' + bytes(47), 0), errno_of(os.sched_setparam, 0, os.sched_param(0)),
      errno_of(os.sched_setscheduler, 0, os.SCHED_BATCH, os.sched_param(0)))
