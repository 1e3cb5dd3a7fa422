# why: abstract names cross file systems
# expect: OK
# text: EACCES EACCES
def reach(name):
    s = socket.socket(socket.AF_UNIX)
    s.connect(name)


print(errno_of(reach, '\0' + TRAINER_DIR), errno_of(reach, TRAINER_DIR + '/socket'))
