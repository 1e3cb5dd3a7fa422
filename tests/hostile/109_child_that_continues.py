# why: a child that sends SIGCONT without end races with the stop at the turn's end
# expect: OK
# text: EPERM
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: can't start new thread
count, rate = count_natively()
me = os.getpid()
print(errno_of(os.kill, me, signal.SIGCONT))
for i in range(4):
    if os.fork() == 0:
        while True:
            try:
                os.kill(me, signal.SIGCONT)
            except OSError:
                pass
before = count.value
# %%
# pause: 1.2
# expect: OK
# has: still
# T2 expect: PY_ERROR
# T2 has: NameError
spent = (count.value - before) / rate
print('still' if spent < 0.7 else f'ran for {spent} s')
