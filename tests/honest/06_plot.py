# needs: matplotlib
# expect: OK
# text: saved True\n
# images: 1
# T2 expect: PY_ERROR
# T2 text: -
# T2 images: 0
# T2 has: plot.png
import os
import matplotlib.pyplot as plt
fig, ax = plt.subplots(figsize=(3, 2), dpi=80)
ax.plot([1, 2, 3], [4, 1, 9], 'o-', label='y')
ax.set_title('values')
ax.legend()
plt.savefig('plot.png')
print('saved', os.path.getsize('plot.png') > 1000)
plt.show()
