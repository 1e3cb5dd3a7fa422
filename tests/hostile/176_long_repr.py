# why: the last expression is printed whole
# expect: OUTPUT|PY_ERROR|OOM
class R:
    def __repr__(self):
        return 'x' * (40 << 20)


R()
