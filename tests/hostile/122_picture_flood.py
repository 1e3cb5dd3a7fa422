# why: ten thousand pictures: the first few are kept
# expect: OK
# images: 4
im = np.zeros((8, 8), np.uint8)
for i in range(10000):
    show(im)
