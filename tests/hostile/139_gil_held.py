# why: C code that waits with the interpreter's lock held: only the kill ends it
# expect: TIMEOUT_HARD
lib = ctypes.PyDLL(None)
m = (ctypes.c_char * 64)()
lib.pthread_mutex_lock(m)
lib.pthread_mutex_lock(m)
