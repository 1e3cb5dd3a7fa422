# why: the claim cannot be sent at all
# expect: EXITED 71
a, b = os.pipe()
os.dup2(b, 3)
os.dup2(b, 4)
