# why: a namespace of one's own is a kernel surface of one's own
# expect: OK
# text: EPERM EPERM EPERM EPERM EPERM EPERM EPERM EPERM ENOSYS
print(errno_of(call, 'unshare', 0x10000000), errno_of(call, 'mount', 0, 0, 0, 0, 0),
      errno_of(call, 'umount2', b'/tmp', 2), errno_of(call, 'setns', 3, 0), errno_of(call, 'pivot_root', b'/', b'/'),
      errno_of(call, 'open_by_handle_at', 3, 0, 0), errno_of(call, 'clone', 0x10000011, 0, 0, 0, 0),
      errno_of(os.chroot, '/tmp'), errno_of(call, 'clone3', 0, 0))
