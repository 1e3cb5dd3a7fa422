# why: counts beyond the arrays they count
# expect: PROTOCOL
forge(find_claim(), [], n_image=2 ** 31 - 1)
# %%
# expect: PROTOCOL
forge(find_claim(), [], n_image=-1)
# %%
# expect: PROTOCOL
forge(find_claim(), [(8, 8, 192 * i) for i in range(5)])
# %%
# expect: PROTOCOL
forge(find_claim(), [], message=2049)
# %%
# expect: PROTOCOL
forge(find_claim(), [], message=-1)
# %%
# expect: PROTOCOL
forge(find_claim(), [], kind=3)
# %%
# expect: PROTOCOL
forge(find_claim(), [], kind=-1)
