# why: the nonce lies in the process's own memory; with it a claim is believed, and its numbers are checked (control for 111 to 113)
# expect: OK
# images: 1
# after: any
claim = find_claim()
forge(claim, [(9, 7, 0)])
