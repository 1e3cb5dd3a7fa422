# why: the second table of numbers on x86-64
# expect: SIGNAL 31
libc.syscall(0x40000027)
