# why: stopped is not parked: the clock goes on, unless the scheduler of long turns wakes it again
# expect: TIMEOUT_SOFT|TIMEOUT_HARD|OK
os.kill(os.getpid(), signal.SIGSTOP)
