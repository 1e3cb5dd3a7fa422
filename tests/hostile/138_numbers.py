# why: one operation that asks for more than there is
# expect: OK
# text: MemoryError MemoryError MemoryError
print(errno_of(lambda: 1 << (1 << 40)), errno_of(lambda: 'x' * (1 << 50)), errno_of(lambda: [0] * (1 << 45)))
