# why: own tools broken: own later turns suffer, and only they
# expect: PY_ERROR
import builtins

builtins.compile = builtins.exec = builtins.print = None
sys.settrace(lambda *a: 1 / 0)
x = len('')
builtins.undo()
