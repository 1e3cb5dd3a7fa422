# expect: OK
# text: -
# images: 5
show(np.random.rand(20, 30))
show(np.random.rand(20, 30, 3))
show(np.eye(16, dtype=bool))
show((np.random.rand(20, 30, 4) * 255).astype(np.uint8))
show(np.arange(400).reshape(20, 20))
# %%
# expect: OK
# text: array([[1., 0.],\n       [0., 1.]])\n
# images: 0
np.eye(2)
# %%
# expect: PY_ERROR
# has: not a picture: array of shape (3,)
show(np.arange(3))
# %%
# expect: PY_ERROR
# has: show() takes a PIL image, an array or a figure, not str
show('file.png')
# %%
# expect: OK
# images: 1
# text: -
(np.arange(64 * 64) % 255).astype(np.uint8).reshape(64, 64)
