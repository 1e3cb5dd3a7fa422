# why: exit() is the model's way to stop, and says so
# expect: EXIT 3
sys.exit(3)
