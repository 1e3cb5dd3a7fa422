# why: calls with a history, each by number
# expect: OK
# text: none
seen = {n: errno_of(call, n, 0, 0, 0, 0, 0, 0) for n in (
    'splice', 'tee', 'vmsplice', 'io_setup', 'inotify_init', 'inotify_init1', 'fanotify_init', 'timerfd_create',
    'signalfd', 'name_to_handle_at', 'lookup_dcookie', 'move_pages', 'mbind', 'memfd_secret', 'process_mrelease',
    'process_madvise', 'pidfd_send_signal', 'pkey_alloc', 'adjtimex', 'clock_settime', 'ustat', 'ioperm', 'fsopen',
    'fsmount', 'move_mount', 'open_tree', 'mount_setattr', 'landlock_restrict_self', 'kexec_file_load', 'preadv2',
    'rt_sigqueueinfo', 'rt_tgsigqueueinfo', 'openat2')}
print({n: e for n, e in seen.items() if e not in ('EPERM', 'ENOSYS')} or 'none')
