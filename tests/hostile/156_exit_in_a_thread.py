# why: SystemExit in a thread is that thread's
# expect: OK
# has: after
# T2 expect: PY_ERROR
# T2 has: can't start new thread
t = threading.Thread(target=sys.exit, args=(5,))
t.start()
t.join()
print('after')
