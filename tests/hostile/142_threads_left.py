# why: threads that stay at a turn's end fill the number of processes: the next turn must start all the same
# expect: OK
threading.stack_size(65536)
try:
    while True:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
except RuntimeError:
    pass
# %%
# expect: OK
# text: 1
print(alive)
