# why: /tmp has a number of files
# expect: OK
# text: ENOSPC
# T2 text: EACCES
def many():
    for i in range(9999):
        open(f'/tmp/i{i}', 'w').close()


print(errno_of(many))
