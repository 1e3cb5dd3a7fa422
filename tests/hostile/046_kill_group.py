# why: the same for the group
# expect: SIGNAL 9
# T2 expect: PY_ERROR
# T2 has: PermissionError
os.killpg(0, 9)
