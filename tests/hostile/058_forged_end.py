# why: a message of one's own on the channel
# expect: PROTOCOL
os.write(3, b'x' * 64)
time.sleep(9)
