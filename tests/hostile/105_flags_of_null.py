# why: one open /dev/null for all boxes: its flags would carry messages
# expect: OK
# text: done 0
import fcntl

print(errno_of(fcntl.fcntl, 0, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND))
# %% next box
# expect: OK
# text: 0
import fcntl

print(fcntl.fcntl(0, fcntl.F_GETFL) & (os.O_NONBLOCK | os.O_APPEND))
