# expect: OK
# text: {'a': [1, 2], 'b': {'c': None}}\n
d = {'a': [1, 2], 'b': {'c': None}}
d
# %%
# expect: OK
# text: printed\n'value'\n
print('printed')
'value'
# %%
# expect: OK
# text: -
d.update(z=1)
# %%
# expect: OK
# text: [1, 2]\n{'z': 1}\n
display(d.pop('a'))
d.pop('b')
d
# %%
# expect: OK
# text: 7\n
# images: 1
display(img, 7)
