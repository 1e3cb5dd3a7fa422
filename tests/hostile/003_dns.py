# why: a name is refused at once, without a resolver's time-out
# expect: OK
# text: gaierror True
t = time.time()
try:
    socket.getaddrinfo('example.org', 80)
except OSError as e:
    print(type(e).__name__, time.time() - t < 0.5)
