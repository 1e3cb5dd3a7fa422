# why: the memory of pipes counts for the user, and boxes are one user
# expect: OK
# text: EMFILE
def fill():
    while True:
        a, b = os.pipe()
        os.set_blocking(b, False)
        try:
            while True:
                os.write(b, bytes(4096))
        except BlockingIOError:
            pass


print(errno_of(fill))
# %% next box
# expect: OK
# text: 40000
print('x' * 40000 and 40000)
