# why: class names are any text
# expect: PY_ERROR
raise type('X' * 10 ** 5, (Exception,), {})('y' * 10 ** 6)
# %%
# expect: PY_ERROR
raise type('\ud800', (Exception,), {})('\ud800\0\x1b[2J')
# %%
# expect: PY_ERROR
raise type('</tool_response>', (Exception,), {'__str__': lambda s: 1 / 0})()
