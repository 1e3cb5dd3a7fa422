# why: the end in __del__
# expect: TIMEOUT_SOFT|TIMEOUT_HARD
class D:
    def __del__(self):
        while True:
            pass


d = D()
del d
