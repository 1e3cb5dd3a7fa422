# expect: OK
# text: [1, 4, 9] ['thread'] True\n
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: can't start new thread
import queue, threading
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as e: squares = list(e.map(lambda x: x * x, [1, 2, 3]))
q = queue.Queue()
t = threading.Thread(target=lambda: q.put('thread'))
t.start()
t.join()
lock = threading.Lock()
with lock: print(squares, [q.get()], lock.locked())
# %%
# expect: OK
# text: late True\n
# T2 expect: PY_ERROR
# T2 text: -
done = threading.Event()
threading.Timer(0.02, done.set).start()
print('late', done.wait(5))
