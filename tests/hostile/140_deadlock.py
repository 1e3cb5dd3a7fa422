# why: a lock taken twice
# expect: TIMEOUT_SOFT
lock = threading.Lock()
lock.acquire()
lock.acquire()
