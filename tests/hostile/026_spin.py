# why: the interrupt ends it and keeps the state
# expect: TIMEOUT_SOFT
# text:
while True:
    pass
