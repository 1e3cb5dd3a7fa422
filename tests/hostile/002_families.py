# why: families that namespaces do not cover (vsock), and those whose bugs were exploits
# expect: OK
# text: EACCES EACCES EACCES EACCES EACCES EACCES EACCES EACCES
print(*[errno_of(socket.socket, f, t) for f, t in ((1, 1), (16, 3), (17, 3), (38, 5), (40, 1), (44, 3), (31, 5), (29, 3))])
