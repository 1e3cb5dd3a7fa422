# why: what is attached to a message is dropped by the kernel
# expect: PROTOCOL
# T2 expect: PROTOCOL
import array

s = socket.socket(fileno=os.dup(4))
s.sendmsg([b'x'], [(1, 1, array.array('i', [0] * 200))])
time.sleep(9)
