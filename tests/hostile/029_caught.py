# why: what ran out of time is no success, however it ends
# expect: TIMEOUT_SOFT
# text: caught
try:
    time.sleep(60)
except KeyboardInterrupt:
    print('caught')
