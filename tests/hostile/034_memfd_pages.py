# why: pages of a file in memory belong to no process: the group counts them; the killer may choose the parked state
# expect: OOM
# after: any
# T1 expect: PY_ERROR
# T1 has: PermissionError
# T2 expect: PY_ERROR
# T2 has: PermissionError
fds = [os.memfd_create(str(i)) for i in range(16)]
block = bytes(1 << 20)
for fd in fds:
    for i in range(60):
        os.write(fd, block)
