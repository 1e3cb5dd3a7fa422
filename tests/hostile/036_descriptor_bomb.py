# why: the number of descriptors is bounded
# expect: OK
# text: EMFILE
print(errno_of(lambda: [os.dup(0) for i in range(999)]))
