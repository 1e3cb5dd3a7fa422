# why: nothing of the supervisor's is inherited
# expect: OK
# text: [0, 1, 2, 3, 4, 5, 6, 7]
def is_open(i):
    try:
        os.fstat(i)
        return True
    except OSError:
        return False


print([i for i in range(1024) if is_open(i)])
