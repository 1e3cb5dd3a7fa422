# why: a timer armed in one turn is not the next turn's
# expect: OK
signal.setitimer(signal.ITIMER_REAL, 0.2)
# %%
# pause: 0.4
# expect: OK
# text: 1
print(alive)
