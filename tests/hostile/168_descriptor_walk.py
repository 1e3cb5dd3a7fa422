# why: up and out by a directory's descriptor
# expect: OK
# text: True True
# T2 text: True True
d = os.open('/usr', os.O_PATH)
for i in range(60):
    try:
        d = os.open('..', os.O_PATH | os.O_DIRECTORY, dir_fd=d)
    except OSError:
        break
os.fchdir(d)
os.chdir('..')
print(errno_of(open, 'etc/shadow') in ('ENOENT', 'EACCES'), errno_of(os.open, TRAINER_FILE[1:], os.O_RDONLY, 0) in ('ENOENT', 'EACCES'))
