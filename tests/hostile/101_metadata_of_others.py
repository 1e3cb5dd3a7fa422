# why: Landlock does not cover chmod, chown and time stamps; at T2 the trainer's files belong to the same user
# expect: OK
# text: ENOENT ENOENT ENOENT EPERM
# T2 text: EPERM EPERM EPERM EPERM
print(errno_of(os.chmod, TRAINER_FILE, 0), errno_of(os.chmod, TRAINER_DIR, 0), errno_of(os.utime, TRAINER_FILE, (0, 0)),
      errno_of(os.chown, TRAINER_FILE, os.getuid(), os.getgid()))
