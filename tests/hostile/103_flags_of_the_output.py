# why: O_NONBLOCK belongs to the pipe's open file, which the jail's next box writes to
# expect: OK
# text: done 2048 done 1024
import fcntl

print(errno_of(fcntl.fcntl, 1, fcntl.F_SETFL, os.O_NONBLOCK).replace('done 0', 'done 2048'),
      errno_of(fcntl.fcntl, 5, fcntl.F_SETFL, os.O_APPEND).replace('done 0', 'done 1024'))
# %%
# expect: OK
# text: 0 0
print(*[__import__('fcntl').fcntl(fd, 3) & (os.O_NONBLOCK | os.O_APPEND) for fd in (1, 5)])
# %% next box
# expect: OK
# text: 0 0
# images: 1
print(*[__import__('fcntl').fcntl(fd, 3) & (os.O_NONBLOCK | os.O_APPEND) for fd in (1, 5)])
show(np.zeros((8, 8), np.uint8))
