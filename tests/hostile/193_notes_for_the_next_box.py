# why: mode, time stamps and position of what the jail's next box gets, too: letters between trajectories
# expect: OK
# T2 expect: OK
def leave():
    os.lseek(5, 4242, 0)
    for fd in (0, 1, 2, 5, 7):
        for f in (lambda: os.fchmod(fd, 0o123), lambda: os.utime(fd, (42, 42))):
            try:
                f()
            except OSError:
                pass


leave()
# %% next box
# expect: OK
# text: 0 [] []
print(os.lseek(5, 0, 1), [fd for fd in (0, 1, 2, 5, 7) if os.fstat(fd).st_mode & 0o777 == 0o123],
      [fd for fd in (0, 1, 2, 5, 7) if os.fstat(fd).st_atime == 42 or os.fstat(fd).st_mtime == 42])
