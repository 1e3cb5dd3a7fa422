# why: armed in one turn, due between turns: threads do not outlive the turn's fork
# expect: OK
# T2 expect: PY_ERROR
# T2 has: can't start new thread
threading.Timer(0.05, os._exit, (7,)).start()
# %%
# expect: OK
# text: 1
time.sleep(0.3)
print(alive)
