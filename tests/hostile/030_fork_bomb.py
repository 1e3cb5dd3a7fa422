# why: named as the reason when the turn fails by it
# expect: PIDS
# T2 expect: PY_ERROR
# T2 has: PermissionError
while True:
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
