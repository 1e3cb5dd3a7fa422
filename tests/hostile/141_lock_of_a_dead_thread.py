# why: a thread that held a lock is gone after the fork: the next turn waits for nobody
# expect: OK
# T2 expect: PY_ERROR
# T2 has: can't start new thread
lock = threading.Lock()


def hold():
    with lock:
        time.sleep(60)


threading.Thread(target=hold, daemon=True).start()
time.sleep(0.05)
# %%
# expect: TIMEOUT_SOFT
# T2 expect: OK
# text:
if TIER < 2:
    lock.acquire()
