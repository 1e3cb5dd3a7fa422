# why: a claim ends the turn: what follows it does not run, not even between turns
# expect: OK
# after: any
import mmap

m = mmap.mmap(-1, 4096)
count = ctypes.c_long.from_buffer(m)
claim = find_claim()
os.write(CHANNEL, claim)
while True:
    count.value += 1
