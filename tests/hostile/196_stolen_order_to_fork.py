# why: threads of the last turn read the order to fork for the next one: the state is stopped again, the next turn is lost by its own doing
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
# pause: 0.3
# expect: OK|TIMEOUT_HARD|TIMEOUT_SOFT|PROTOCOL
# T2 expect: OK
print(1)
