# why: without Python's buffers
# expect: OUTPUT
while True:
    os.write(2, b'x' * 65536)
