# why: describing an error runs the code's own code
# expect: TIMEOUT_SOFT|TIMEOUT_HARD
class E(Exception):
    def __str__(self):
        while True:
            pass


raise E()
