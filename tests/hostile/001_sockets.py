# why: no address family but pairs of its own
# expect: OK
# text: EACCES EACCES EACCES EACCES EACCES EACCES
print(*[errno_of(socket.socket, f, t) for f, t in ((2, 1), (2, 2), (2, 3), (10, 1), (10, 2), (2, 5))])
