# why: TIOCSTI types into the user's shell; leases and owners send signals to others
# expect: OK
# text: EPERM EPERM EPERM EPERM
import fcntl

print(errno_of(fcntl.ioctl, 0, 0x5412, b'x'), errno_of(fcntl.fcntl, 0, 1024, 0), errno_of(fcntl.fcntl, 0, 8, 1),
      errno_of(fcntl.fcntl, 0, 1026, 1))
