# why: the interpreter dies
# expect: SIGNAL 6
os.abort()
