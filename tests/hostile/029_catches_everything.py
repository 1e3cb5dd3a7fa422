# why: except BaseException eats the interrupt
# expect: TIMEOUT_HARD
# text:
def f():
    while True:
        try:
            while alive:
                time.sleep(0)
        except BaseException:
            pass


f()
