# why: the number of processes is bounded
# expect: OK
# text: True
# T2 text: EPERM 0
n = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        n += 1
except BlockingIOError:
    print(5 < n < 24)
except PermissionError:
    print('EPERM', n)
