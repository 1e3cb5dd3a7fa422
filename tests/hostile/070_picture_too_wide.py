# why: shapes the trainer's processor refuses
# expect: PY_ERROR
# has: cannot show a picture
show(np.zeros((4, 9000), np.uint8))
