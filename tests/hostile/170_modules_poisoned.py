# why: what is broken in one box is whole in the next
# expect: OK
# after: any
import builtins
import json

json.dumps = lambda *a: 'poison'
np.sum = lambda *a: 42
sys.modules['math'] = None
builtins.sum = None
# %% next box
# expect: OK
# text: {} 6 3
import json
import math

print(json.dumps({}), np.sum([1, 2, 3]), sum([1, 2]))
