# why: the same with processes that ignore signals
# expect: OK
# T2 expect: PY_ERROR
# T2 has: PermissionError
try:
    while True:
        if os.fork() == 0:
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
            time.sleep(60)
            os._exit(0)
except BlockingIOError:
    pass
# %%
# expect: OK
# text: 1
print(alive)
