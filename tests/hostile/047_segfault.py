# why: the interpreter dies
# expect: SIGNAL 11
ctypes.string_at(0)
