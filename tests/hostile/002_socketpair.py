# why: pairs of its own are harmless, and multiprocessing needs them
# expect: OK
# text: b'x'
# T2 expect: PY_ERROR
# T2 has: PermissionError
# T2 text: -
a, b = socket.socketpair()
a.send(b'x')
b.recv(1)
