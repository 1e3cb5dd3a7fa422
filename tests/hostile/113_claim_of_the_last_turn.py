# why: a nonce is good for one turn
# expect: OK
old = find_claim()
# %%
# expect: PROTOCOL
forge(old, [])
