# why: the same in a turn that succeeds
# expect: OK
# after: any
import builtins

builtins.compile = builtins.exec = builtins.eval = None
# %% next box
# expect: OK
# text: 3
eval('1 + 2')
