# why: output is bounded
# expect: OUTPUT
while True:
    print('x' * 1000)
