# why: C stack through Python
# expect: SIGNAL 11
sys.setrecursionlimit(10 ** 9)


class A:
    def __getattr__(self, n):
        return getattr(self, n)


A().x
