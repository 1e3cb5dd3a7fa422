# why: a device node is the disk
# expect: OK
# text: EPERM EPERM
print(errno_of(os.mknod, '/tmp/d', 0o60666, 0x800), errno_of(os.mknod, '/tmp/f', 0o10666))
