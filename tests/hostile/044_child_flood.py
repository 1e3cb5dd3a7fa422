# why: a child floods the pipe
# expect: OUTPUT
# T2 expect: PY_ERROR
# T2 has: PermissionError
if os.fork() == 0:
    while True:
        os.write(1, b'x' * 65536)
time.sleep(9)
