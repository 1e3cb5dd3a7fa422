# why: threads are counted with processes
# expect: PIDS
# T2 expect: PY_ERROR
# T2 has: can't start new thread
threading.stack_size(65536)
while True:
    threading.Thread(target=time.sleep, args=(60,)).start()
