# why: what T2 does not hide, as its README says: whether a path exists, not what it holds
# expect: OK
# text: False []
# T2 text: True []
def reads(p):
    try:
        os.listxattr(p) if 0 else os.readlink(p)
        return True
    except OSError:
        return False


print(os.path.exists(TRAINER_FILE), [p for p in ('cwd', 'exe', 'root', 'fd/0', 'ns/pid') if reads(f'/proc/{TRAINER_PID}/{p}')])
