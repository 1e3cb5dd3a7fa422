# why: head and tail are kept
# expect: OK
# has: bytes left out
for i in range(100000):
    print(i)
