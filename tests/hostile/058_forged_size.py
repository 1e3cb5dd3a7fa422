# why: of the right size but without the nonce
# expect: PROTOCOL
for fd in (3, 4):
    os.write(fd, bytes(CLAIM_SIZE))
time.sleep(9)
