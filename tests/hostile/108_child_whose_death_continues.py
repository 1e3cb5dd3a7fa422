# why: a child's exit signal may be SIGCONT: killing the turn's children would wake the state being parked
# expect: OK
# text: EPERM
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: can't start new thread
count, rate = count_natively()
r = errno_of(call, 'clone', int(signal.SIGCONT), 0, 0, 0, 0)
if r == 'done 0':
    time.sleep(60)
    os._exit(0)
print(r if r[0] == 'E' else 'done')
before = count.value
# %%
# pause: 1.2
# expect: OK
# has: still
# T2 expect: PY_ERROR
# T2 has: NameError
spent = (count.value - before) / rate
print('still' if spent < 0.7 else f'ran for {spent} s')
