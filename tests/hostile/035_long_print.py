# why: 200 MB in one call
# expect: OUTPUT|PY_ERROR|OOM
print('x' * (100 << 20))
