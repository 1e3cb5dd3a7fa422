# why: lengths a pickle claims are allocated before they are read
# expect: OK
# text: error error error
import pickle
import struct


def says(data):
    try:
        pickle.loads(data)
    except (pickle.UnpicklingError, MemoryError, EOFError, OverflowError, ValueError):
        return 'error'
    return 'done'


print(says(b'\x80\x04\x8e' + struct.pack('<Q', 1 << 60) + b'x.'), says(b'\x80\x04\x8d' + struct.pack('<Q', 1 << 40) + b'x.'),
      says(b'\x80\x04r' + struct.pack('<I', 2 ** 32 - 1) + b'.'))
