# why: a thread ends the process: not OK, not ours
# expect: EXITED 7
# T2 expect: PY_ERROR
# T2 has: can't start new thread
threading.Timer(0.2, os._exit, (7,)).start()
time.sleep(1)
