# why: own filters, rights of the machine
# expect: OK
# text: {'EPERM'}
print({errno_of(call, *a) for a in (
    ('seccomp', 1, 0, 0), (444, 0, 0, 1), ('prctl', 4, 0), ('personality', 0x40000), ('modify_ldt', 0), ('iopl', 3),
    ('init_module', 0, 0, 0), ('reboot', 0, 0, 0), ('syslog', 3, 0, 0), ('capset', 0, 0), ('acct', 0),
    ('settimeofday', 0, 0), ('swapon', 0, 0), ('kexec_load', 0, 0, 0, 0), ('quotactl', 0, 0, 0, 0),
    ('sethostname', b'x', 1), ('finit_module', 0, 0, 0), ('setxattr', b'/tmp', b'user.x', b'x', 1, 0))})
