# why: such a process ends its turn: it has to be stopped like any other
# expect: OK|PROTOCOL|TIMEOUT_SOFT|TIMEOUT_HARD|EXITED
# after: any
# T2 expect: PY_ERROR
# T2 has: can't start new thread
claim = find_claim()


def late():
    time.sleep(0.1)
    forge(claim, [])


threading.Thread(target=late).start()
libc.syscall(60, 0)
