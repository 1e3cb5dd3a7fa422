# why: the claim goes where nobody hears it: the clock ends the turn
# expect: TIMEOUT_SOFT|TIMEOUT_HARD
# T2 expect: PY_ERROR
# T2 has: PermissionError
pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
os.dup2(pair[1].fileno(), 3)
os.dup2(pair[1].fileno(), 4)
