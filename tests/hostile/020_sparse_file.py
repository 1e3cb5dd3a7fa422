# why: a file's size is bounded even where it takes no space
# expect: OK
# text: EFBIG
# T2 text: EACCES
def big():
    with open('/tmp/big', 'wb') as f:
        f.truncate(1 << 40)


print(errno_of(big))
