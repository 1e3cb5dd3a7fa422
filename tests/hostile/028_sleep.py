# why: waiting counts as time
# expect: TIMEOUT_SOFT
# text: before
print('before')
time.sleep(60)
