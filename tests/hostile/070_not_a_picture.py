# why: seven channels
# expect: PY_ERROR
# has: not a picture
show(np.zeros((3, 3, 7), np.uint8))
