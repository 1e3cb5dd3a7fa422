# why: a parser has a stack
# expect: PY_ERROR|SIGNAL
eval('(' * 100000)
# %%
# expect: PY_ERROR|SIGNAL|OK
eval('-' * 200000 + '1')
# %%
# expect: PY_ERROR|SIGNAL|OK
exec('a' + '.a' * 100000)
