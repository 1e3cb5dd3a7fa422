# why: a seal stays: with F_SEAL_WRITE the jail's next box could show nothing, and its failure would look like ours
# expect: OK
# text: EPERM EPERM
import fcntl

print(errno_of(fcntl.fcntl, 5, 1033, 8), errno_of(fcntl.fcntl, 5, 1033, 16))
# %%
# expect: OK
# images: 1
show(np.zeros((8, 8), np.uint8))
# %% next box
# expect: OK
# images: 1
show(np.zeros((8, 8), np.uint8))
