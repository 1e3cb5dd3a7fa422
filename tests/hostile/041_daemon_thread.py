# why: what a turn leaves running does not run between turns, nor delay the next
# expect: OK
# T2 expect: PY_ERROR
# T2 has: can't start new thread
def spin():
    while True:
        pass


threading.Thread(target=spin, daemon=True).start()
# %%
# expect: OK
# text: 1 1
print(alive, threading.active_count() if TIER < 2 else 1)
