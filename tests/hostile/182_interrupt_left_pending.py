# why: a signal for the parked state waits in it for the next turn
# expect: OK
# T2 expect: PY_ERROR
# T2 has: KeyboardInterrupt
# after: any
for p in range(2, 400):
    if p != os.getpid():
        errno_of(os.kill, p, signal.SIGINT)
if TIER == 2:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(1)
# %%
# expect: OK
# text: 1
print(alive)
# %%
# expect: OK
# text: 1
print(alive)
