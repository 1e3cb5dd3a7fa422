# why: descriptors in unread messages count for the user, and boxes are one user
# expect: OK
# T2 expect: PY_ERROR
# T2 has: PermissionError
import array

pairs = [socket.socketpair() for i in range(20)]
fds = array.array('i', [p[0].fileno() for p in pairs] * 10)
sent = 0
for i in range(50):
    try:
        pairs[i % 20][1].sendmsg([b'x'], [(1, 1, fds)])
        sent += 1
    except OSError as e:
        break
# %% next box
# expect: OK
# text: 1
# images: 1
show(np.zeros((8, 8), np.uint8))
print(alive)
