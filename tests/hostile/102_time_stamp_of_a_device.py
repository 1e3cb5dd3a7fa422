# why: every box sees the same /dev/null: its time stamps would carry messages
# expect: OK
# text: True True True
# T2 text: True True True
before = os.stat('/dev/null').st_mtime_ns
print(errno_of(os.utime, '/dev/null') in ('EROFS', 'EPERM'), errno_of(os.utime, 0) in ('EROFS', 'EPERM'),
      os.stat('/dev/null').st_mtime_ns == before)
