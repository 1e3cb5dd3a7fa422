# why: /proc/self/mem and exe were the way out of other sandboxes
# expect: OK
# text: ENOENT ENOENT ENOENT ENOENT
# T2 text: EACCES EACCES EACCES EACCES
print(errno_of(open, '/proc/self/mem', 'r+b'), errno_of(open, '/proc/self/exe', 'r+b'),
      errno_of(open, '/proc/self/oom_score_adj', 'w'), errno_of(open, f'/proc/{TRAINER_PID}/fd/0'))
