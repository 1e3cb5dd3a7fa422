# why: pictures written elsewhere: the claim's are blank, not somebody's
# expect: OK
# images: 1
# T2 images: 1
fd = os.open('/dev/zero' if TIER == 2 else '/tmp/x', os.O_RDONLY if TIER == 2 else os.O_RDWR | os.O_CREAT)
if TIER < 2:
    os.dup2(fd, 5)
show(np.full((8, 8), 200, np.uint8))
