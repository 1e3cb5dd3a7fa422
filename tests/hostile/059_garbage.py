# why: too long, and empty
# expect: PROTOCOL
os.write(4, b'x' * 5000)
os.write(3, b'')
time.sleep(9)
