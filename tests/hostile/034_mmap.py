# why: memory that Python does not know of
# expect: PY_ERROR
# has: annot allocate memory
import mmap

m = [mmap.mmap(-1, 64 << 20, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE) for i in range(16)]
