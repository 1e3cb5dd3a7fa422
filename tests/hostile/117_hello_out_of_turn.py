# why: the greeting of a turn's process, sent by a child in the middle of it
# expect: PROTOCOL
import struct

for fd in (3, 4):
    os.write(fd, struct.pack('<IIIIQ', OP_HELLO, 0, 0, 0, 0))
time.sleep(9)
