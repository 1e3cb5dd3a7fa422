# why: sizes that no memory has
# expect: OK
# text: MemoryError MemoryError
from PIL import Image

print(errno_of(Image.new, 'RGB', (100000, 100000)), errno_of(np.zeros, (60000, 60000, 3)))
