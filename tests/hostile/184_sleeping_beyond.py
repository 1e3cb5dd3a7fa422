# why: many sleepers at the turn's end do not delay it
# expect: OK
# text: done
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: can't start new thread
ts = [threading.Thread(target=time.sleep, args=(60,), daemon=True) for i in range(10)]
for t in ts:
    t.start()
print('done')
