# why: keyrings belong to the user, not to the box
# expect: OK
# text: EPERM EPERM EPERM
print(*[errno_of(call, n, 0, 0, 0, 0, 0) for n in ('add_key', 'request_key', 'keyctl')])
