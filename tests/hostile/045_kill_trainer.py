# why: by its number and by the parent's
# expect: OK
# text: True True True
bad = ('EPERM', 'ESRCH')
print(errno_of(os.kill, TRAINER_PID, 9) in bad, errno_of(os.kill, os.getppid(), 9) in bad,
      errno_of(os.killpg, TRAINER_PID, 9) in bad)
