# why: devices of the machine that containers tend to show
# expect: OK
# text: none
seen = {n: errno_of(os.open, '/dev/' + n, os.O_RDWR) for n in
        ('mem', 'kmsg', 'tty', 'ptmx', 'pts/0', 'full', 'random', 'console', 'kvm', 'nvidia0', 'fuse', 'vsock')}
print({n: e for n, e in seen.items() if e not in ('ENOENT', 'EACCES')} or 'none')
