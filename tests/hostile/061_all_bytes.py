# why: what is no text is escaped before anybody reads it
# expect: OK
# has: \\x00\\x01
os.write(1, bytes(range(256)))
print('\ud800', end='')
