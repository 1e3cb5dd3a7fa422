# why: three devices and nothing else
# expect: OK
# text: null shm urandom zero
# T2 text: EACCES
print(*sorted(os.listdir('/dev')) if TIER < 2 else [errno_of(os.listdir, '/dev')])
