# why: one's own end is a signal, and the state before stays
# expect: SIGNAL 9
os.kill(os.getpid(), 9)
