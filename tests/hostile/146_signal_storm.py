# why: every signal to everybody in reach, as fast as it goes
# expect: OK|SIGNAL|TIMEOUT_SOFT|TIMEOUT_HARD|PY_ERROR
# after: any
# T2 expect: OK|SIGNAL|PY_ERROR
for s in range(1, 65):
    if s not in (9, 19):
        try:
            signal.signal(s, lambda *a: None)
        except (OSError, ValueError):
            pass
for i in range(200):
    for p in (os.getpid(), os.getppid(), 0, -1):
        for s in (10, 12, 17, 14, 28, 23):
            try:
                os.kill(p, s)
            except OSError:
                pass
