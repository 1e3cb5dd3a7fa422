# why: the state before this turn is a process that all of the box may kill: said, not hidden
# expect: OK
# after: any
# T2 expect: PY_ERROR
# T2 has: PermissionError
os.kill(-1, 9)
