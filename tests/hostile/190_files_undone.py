# why: a failed turn's files are undone: what it left in their place must not lead the undoing elsewhere
# expect: OK
# T2 expect: PY_ERROR
# T2 has: PermissionError
os.makedirs('/tmp/d/e')
open('/tmp/d/f', 'w').write('mine')
os.symlink('/etc/passwd', '/tmp/l')
os.chmod('/tmp/d/f', 0)
# %%
# expect: PY_ERROR
import shutil

shutil.rmtree('/tmp/d')
os.symlink('/usr/bin', '/tmp/d')
os.unlink('/tmp/l')
os.mkdir('/tmp/l')
os.chmod('/tmp/l', 0)
os.rename('/tmp/l', '/tmp/m')
for i in range(300):
    os.symlink('/usr/lib', f'/tmp/x{i}')
1 / 0
# %%
# expect: OK
# text: ['d', 'l'] ['e', 'f'] /etc/passwd 0
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: PermissionError
print(sorted(os.listdir('/tmp')), sorted(os.listdir('/tmp/d')), os.readlink('/tmp/l'), os.stat('/tmp/d/f').st_mode & 0o777)
