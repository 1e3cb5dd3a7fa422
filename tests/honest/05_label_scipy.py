# needs: scipy
# expect: OK
# text: 3 [300.0, 400.0, 200.0]\n
from scipy import ndimage
mask = np.array(img.convert('L')) < 50
labels, n = ndimage.label(mask)
sizes = ndimage.sum(mask, labels, range(1, n + 1))
by_x = sorted(range(n), key=lambda i: ndimage.find_objects(labels)[i][1].start)
print(n, [float(sizes[i]) for i in by_x])
# %%
# expect: OK
# text: True 1.414214\n
from scipy import optimize, interpolate, spatial
r = optimize.brentq(lambda x: x * x - 2, 0, 2)
print(np.allclose(interpolate.interp1d([0, 1], [0, 10])(0.5), 5), round(r, 6))
