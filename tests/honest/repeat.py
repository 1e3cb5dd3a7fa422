import datetime, os, random, secrets, sys, tempfile, time, uuid
import numpy as np
print(time.time(), time.time_ns(), time.localtime(), datetime.datetime.now(), datetime.date.today(), np.datetime64('now'))
t = time.time()
time.sleep(0.05)
print('slept', time.time() - t)
t, n = time.time(), 0
while time.time() < t + 1: n += 1
print('loops until a second has passed', n)
# %%
print(random.random(), random.sample(range(99), 5), np.random.rand(3), np.random.permutation(6))
print(np.random.default_rng().random(2), random.SystemRandom().random(), os.urandom(8), secrets.token_hex(4))
print(uuid.uuid4(), uuid.uuid1(), tempfile.mkdtemp(), tempfile.NamedTemporaryFile().name)
random.seed(); print(random.random())
# %%
class A: pass
def f(): pass
keep = [A() for i in range(5)]
print(object(), A(), f, id(keep), hash('x'), hash(None), hash(A()))
print({'a', 'b', 'c'}, {A, f, len, None, 'x', 1.5, int}, set(map(id, keep)))
print([id(a) % 4096 for a in keep], sys.intern('zz').__hash__())
# %%
for name in 'qwertyuiop': open(name, 'w').close()
os.makedirs('d/z'); os.makedirs('d/a')
import glob, pathlib, shutil
print(os.listdir('.'), [e.name for e in os.scandir('d')], glob.glob('?'), list(os.walk('d')), list(pathlib.Path('.').iterdir()))
print(os.listdir('/usr/lib')[:20], glob.glob('/usr/share/*')[:9], os.listdir(b'd'), os.listdir(os.open('d', os.O_RDONLY)))
shutil.rmtree('d')
# %%
def child(i):
    return i, random.random(), float(np.random.rand()), os.urandom(2), time.time()
r, w = os.pipe()
for i in range(3):
    if os.fork() == 0:
        os.write(w, f'{child(i)}\n'.encode())
        os._exit(0)
    os.wait()
print(os.read(r, 9999).decode(), random.random())
# %%
import asyncio, queue, threading
import multiprocessing as mp
t = time.time()
print(threading.Event().wait(0.03), time.time() - t)
t = time.time()
q = mp.Queue()
try: q.get(timeout=0.03)
except queue.Empty: print('empty', time.time() - t >= 0.03)
t = time.time()
l = mp.Lock()
l.acquire()
print(l.acquire(timeout=0.03), time.time() - t)
async def wait():
    await asyncio.sleep(0.02)
    return 'waited'
print(asyncio.run(wait()))
with mp.Pool(2) as p: print(p.map(abs, [-1, 2, -3]))
# %%
1 / 0
# %%
random.random(), np.random.rand(), time.time(), os.urandom(3), os.cpu_count() > 0, sorted(os.environ.items())
