# why: a thread replaces the whole process
# expect: TIMEOUT_SOFT|TIMEOUT_HARD|SIGNAL|EXITED
# T2 expect: PY_ERROR
# T2 has: can't start new thread
threading.Thread(target=os.execv, args=('/bin/sleep', ['sleep', '60'])).start()
time.sleep(60)
