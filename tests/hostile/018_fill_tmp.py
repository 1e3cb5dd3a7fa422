# why: /tmp has a size
# expect: OK
# text: ENOSPC
# T2 text: EACCES
b = bytes(1 << 20)


def fill():
    for i in range(64):
        with open(f'/tmp/{i}', 'wb') as f:
            f.write(b)


print(errno_of(fill))
