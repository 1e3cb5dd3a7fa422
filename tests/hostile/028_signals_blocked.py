# why: a mask instead of a handler
# expect: TIMEOUT_HARD
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
time.sleep(60)
