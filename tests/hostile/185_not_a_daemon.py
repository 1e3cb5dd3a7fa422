# why: a thread that is to be waited for at exit: turns do not exit
# expect: OK
# T2 expect: PY_ERROR
# T2 has: can't start new thread
threading.Thread(target=time.sleep, args=(60,)).start()
# %%
# expect: EXIT 0
sys.exit()
