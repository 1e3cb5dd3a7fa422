# why: a thread goes on writing while the turn ends
# expect: OK
# images: 1
# T2 expect: PY_ERROR
# T2 has: can't start new thread
# T2 images: 0
def scribble():
    i = 0
    while True:
        i += 1
        os.pwrite(5, bytes([i & 255]) * 4096, 0)


threading.Thread(target=scribble, daemon=True).start()
show(np.zeros((64, 64), np.uint8))
