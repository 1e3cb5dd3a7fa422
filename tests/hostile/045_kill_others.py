# why: nobody outside is to be signalled: there is this process, and the one with the state before this turn
# expect: OK
# text: []
seen = {p for p in range(1, 5000) if errno_of(os.kill, p, 0) not in ('ESRCH', 'EPERM')} - {os.getpid()}
print(sorted(seen) if len(seen) > (TIER < 2) else [])
