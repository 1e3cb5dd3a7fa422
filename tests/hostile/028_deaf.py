# why: SIGINT ignored, SIGTERM too
# expect: TIMEOUT_HARD
# text:
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    time.sleep(1)
