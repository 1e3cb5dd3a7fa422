# why: nothing left to report with
# expect: EXITED 71
os.closerange(0, 256)
