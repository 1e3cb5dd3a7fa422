# why: links are followed inside the box only
# expect: OK
# text: ENOENT ELOOP ENOENT
# T2 text: EACCES EACCES EACCES
def go(target, name):
    os.symlink(target, '/tmp/' + name)
    return open('/tmp/' + name)


print(errno_of(go, '/etc/passwd', 'a'), errno_of(go, 'b', 'b'), errno_of(go, TRAINER_FILE, 'c'))
