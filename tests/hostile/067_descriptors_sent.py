# why: a message with descriptors on the channel to the runner: not to be sent at all
# expect: OK
# text: EPERM EPERM
import array

def send():
    s = socket.socket(fileno=os.dup(4))
    return s.sendmsg([b'x'], [(1, 1, array.array('i', [0] * 200))])


print(errno_of(send), errno_of(call, 307, 4, 0, 0, 0))
