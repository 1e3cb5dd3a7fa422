# why: a thread of the last turn reads the next turn's order: the turn is lost, by its own doing
# expect: OK
# after: any
# T2 expect: PY_ERROR
# T2 has: can't start new thread
def thief(fd):
    while True:
        os.read(fd, 400000)


threading.stack_size(65536)
for fd in (3, 4):
    for i in range(4):
        threading.Thread(target=thief, args=(fd,), daemon=True).start()
time.sleep(0.05)
# %%
# expect: OK|TIMEOUT_HARD|TIMEOUT_SOFT|PROTOCOL
# T2 expect: OK
print(1)
