# why: a library on top of sockets meets the same wall, at once
# expect: OK
# text: False True
import urllib.request
t = time.monotonic()
print(errno_of(urllib.request.urlopen, f'http://127.0.0.1:{TCP_PORT}', None, 1).startswith('done'), time.monotonic() - t < 1)
