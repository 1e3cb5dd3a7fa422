# expect: OK
# text: [1, 4, 9] 7 ['child'] [2, 3]\n
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: Error
import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor
def square(x): return x * x
def child(v, q):
    with v.get_lock(): v.value += 7
    q.put('child')
with mp.Pool(3) as p: squares = p.map(square, [1, 2, 3])
v, q = mp.Value('i', 0), mp.Queue()
c = mp.Process(target=child, args=(v, q))
c.start()
said = [q.get(timeout=5)]
c.join()
with ProcessPoolExecutor(2) as e: more = list(e.map(abs, [-2, 3]))
print(squares, v.value, said, more)
# %%
# expect: OK
# text: 6 [0, 1, 2, 3] 10\n
# T2 expect: PY_ERROR
# T2 text: -
from multiprocessing import shared_memory
m = shared_memory.SharedMemory(create=True, size=8)
a = np.ndarray(4, np.uint16, m.buf)
a[:] = range(4)
other = shared_memory.SharedMemory(m.name)
same = np.ndarray(4, np.uint16, other.buf)
same[3] += 0
print(int(same.sum()), a.tolist(), sum(mp.Pool(2).map(square, [1, 3])))
del a, same
other.close(); m.close(); m.unlink()
