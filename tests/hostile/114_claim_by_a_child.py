# why: the kernel names the sender, and a child is not the turn's process
# expect: PROTOCOL
# T2 expect: PY_ERROR
# T2 has: PermissionError
claim = find_claim()
if os.fork() == 0:
    forge(claim, [])
time.sleep(9)
