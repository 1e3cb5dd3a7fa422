# why: a lock on a file that boxes share is a channel between them
# expect: OK
# text: EPERM EPERM EPERM EPERM
import fcntl
import struct

f = open('/usr/bin/env')
lock = struct.pack('hhqqi4x', 0, 0, 0, 0, 0)
print(errno_of(fcntl.flock, f, 2), errno_of(fcntl.lockf, f, 1),
      errno_of(fcntl.fcntl, f, 37, lock), errno_of(fcntl.fcntl, f, 1024, 0))
