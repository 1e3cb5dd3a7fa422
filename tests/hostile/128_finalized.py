# why: the interpreter is taken down from inside
# expect: SIGNAL|EXITED|PROTOCOL|PY_ERROR
ctypes.PyDLL(None).Py_FinalizeEx()
ctypes.PyDLL(None).Py_FatalError(b'done')
