# why: a name is refused at once, without a resolver's time-out
# expect: OK
# text: gaierror True
t = time.monotonic()
try:
    socket.getaddrinfo('example.org', 80)
except OSError as e:
    print(type(e).__name__, time.monotonic() - t < 0.5)
