# why: descriptors in unread messages count for the user, and boxes are one user: 256 of them kept all others from sending
# expect: OK
# text: EPERM
# T2 expect: PY_ERROR
# T2 has: PermissionError
# T2 text: -
import array

pairs = [socket.socketpair() for i in range(20)]
fds = array.array('i', [p[0].fileno() for p in pairs] * 10)
print(errno_of(pairs[0][1].sendmsg, [b'x'], [(1, 1, fds)]))
# %% next box
# expect: OK
# text: 1
# images: 1
show(np.zeros((8, 8), np.uint8))
print(alive)
