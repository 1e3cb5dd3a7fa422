# why: the next turn has its output again
# expect: OK
# T2 after: any
os.close(1)
os.close(2)
sys.stdout = sys.stderr = None
# %%
# expect: OK
# text: back
print('back')
