# why: what exit takes
# expect: EXIT|PY_ERROR
sys.exit(1 << 100)
# %%
# expect: OUTPUT|EXIT
sys.exit('x' * 10 ** 7)
# %%
# expect: EXIT|PY_ERROR|SIGNAL


class E(SystemExit):
    code = property(lambda self: 1 / 0)


raise E()
