# why: watching oneself watching
# expect: OK
# text: ELOOP
import select

a = [select.epoll() for i in range(8)]


def tie():
    for i in range(7):
        a[i].register(a[i + 1].fileno(), 1)
    a[7].register(a[0].fileno(), 1)


print(errno_of(tie))
