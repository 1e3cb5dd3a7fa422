# needs: matplotlib
# expect: OK
# text: -
# images: 0
import matplotlib
matplotlib.use('Agg')
import matplotlib.pyplot as plt
import matplotlib.patches as patches
fig, ax = plt.subplots(1, figsize=(3, 2))
ax.imshow(input_image)
ax.add_patch(patches.Rectangle((10, 10), 20, 15, linewidth=2, edgecolor='r', facecolor='none'))
plt.axis('off')
plt.tight_layout()
# %%
# expect: OK
# text: 0\n
# images: 1
plt.show()
len(plt.get_fignums())
# %%
# expect: OK
# images: 2
# text: -
for n in 1, 2:
    plt.figure(figsize=(2, 1))
    plt.bar(['a', 'b'], [n, 3])
plt.show()
# %%
# expect: OK
# images: 1
# text: -
plt.hist(np.random.rand(100), bins=5)
fig = plt.gcf()
fig
