# why: the group's picture is shared and nobody's to write; its file is closed before the code runs
# expect: OK
# text: 143 True EPERM
print(img.getpixel((0, 0))[0], os.fstat(6).st_rdev == os.fstat(0).st_rdev, errno_of(os.ftruncate, 5, 0))
img.putpixel((0, 0), (1, 2, 3))
