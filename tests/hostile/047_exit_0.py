# why: a process that ends with 0 has not finished its turn
# expect: EXITED 0
# text: x
print('x', flush=True)
os._exit(0)
