# why: the first thread ends, the others live: the process is a zombie that runs
# expect: TIMEOUT_SOFT|TIMEOUT_HARD
# T2 expect: PY_ERROR
# T2 has: can't start new thread
def spin():
    while True:
        pass


threading.Thread(target=spin, daemon=True).start()
libc.syscall(60, 0)
