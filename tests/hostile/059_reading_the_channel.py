# why: nothing is there to be read
# expect: OK
# text: EAGAIN EAGAIN
import fcntl

for fd in (3, 4):
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK)
print(errno_of(os.read, 3, 100), errno_of(os.read, 4, 100))
for fd in (3, 4):
    fcntl.fcntl(fd, fcntl.F_SETFL, 0)
