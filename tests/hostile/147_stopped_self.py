# why: stopped is not parked: the clock goes on
# expect: TIMEOUT_SOFT|TIMEOUT_HARD
os.kill(os.getpid(), signal.SIGSTOP)
