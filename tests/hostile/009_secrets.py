# why: nothing of the machine but the Python tree
# expect: OK
# text: {'ENOENT'}
# T2 text: {'EACCES'}
paths = ['/etc/passwd', '/etc/shadow', '/root/.ssh/id_rsa', '/proc/1/environ', '/proc/self/environ', '/sys/kernel',
         '/home', '/run', '/mnt', '/etc/hostname', '/var/log', '/proc/net/tcp', TRAINER_FILE, TRAINER_DIR,
         f'/proc/{TRAINER_PID}/environ', f'/proc/{TRAINER_PID}/mem', f'/proc/{TRAINER_PID}/maps']
print({e for e in (errno_of(lambda p=p: os.open(p, os.O_RDONLY)) for p in paths) if e not in ('EPERM',)})
