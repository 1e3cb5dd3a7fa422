# why: a set-uid program started without argv read its environment as arguments (pkexec)
# expect: OK
# has: ended True
# T2 expect: PY_ERROR
# T2 has: PermissionError
pid = os.fork()
if pid == 0:
    libc.execve(b'/usr/bin/su', None, None)
    os._exit(3)
print('ended', os.waitpid(pid, 0)[1] != 0)
