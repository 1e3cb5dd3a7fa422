# why: a handler for the interrupt left by an earlier turn
# expect: OK
signal.signal(signal.SIGINT, lambda *a: None)
# %%
# expect: TIMEOUT_SOFT|TIMEOUT_HARD
while True:
    pass
