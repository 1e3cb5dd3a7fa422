# why: signals at the rate of the machine change nothing outside
# expect: OK
# text: True
n = 0


def tick(*a):
    global n
    n += 1


signal.signal(signal.SIGALRM, tick)
signal.setitimer(0, 1e-5, 1e-5)
t = time.monotonic()
while time.monotonic() < t + 0.3:
    pass
signal.setitimer(0, 0)
print(n > 3)
