# why: numbers of pictures that would allocate, overflow, overlap or read beyond
# expect: PROTOCOL
forge(find_claim(), [(2 ** 31 - 1, 2 ** 31 - 1, 0)])
# %%
# expect: PROTOCOL
forge(find_claim(), [(-1, -1, 0)])
# %%
# expect: PROTOCOL
forge(find_claim(), [(0, 100, 0)])
# %%
# expect: PROTOCOL
forge(find_claim(), [(8, 8, 2 ** 62)])
# %%
# expect: PROTOCOL
forge(find_claim(), [(8, 8, -192)])
# %%
# expect: PROTOCOL
forge(find_claim(), [(8, 8, 0), (8, 8, 0)])
# %%
# expect: PROTOCOL
forge(find_claim(), [(8, 1601, 0)])
# %%
# expect: PROTOCOL
forge(find_claim(), [(8192, 8192, 0)])
