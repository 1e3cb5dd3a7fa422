# why: one long C call that never looks
# expect: TIMEOUT_SOFT|TIMEOUT_HARD
sys.set_int_max_str_digits(0)
len(str(10 ** (10 ** 7)))
