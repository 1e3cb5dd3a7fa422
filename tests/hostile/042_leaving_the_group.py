# why: a new session or group would not be met by the kill
# expect: OK
# text: EPERM EPERM
print(errno_of(os.setsid), errno_of(os.setpgid, 0, 0))
