# why: a pickle nested beyond the C stack
# expect: PY_ERROR|SIGNAL|TIMEOUT_SOFT|TIMEOUT_HARD
import pickle

pickle.loads(b'(' * 1000000 + b'l' * 1000000 + b'.')
x = []
for i in range(10 ** 6):
    x = [x]
sys.setrecursionlimit(10 ** 8)
pickle.dumps(x)
