# expect: OK
# text: ['a', 'b'] 3 [(1, 'x')]\n
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: PermissionError
import csv, os, pathlib, sqlite3, tempfile
with open('t.csv', 'w', newline='') as f: csv.writer(f).writerows([['a', 'b'], [1, 2], [3, 4]])
rows = list(csv.reader(open('t.csv')))
db = sqlite3.connect(':memory:')
db.execute('create table t(a, b)')
db.execute("insert into t values (1, 'x')")
pathlib.Path('d').mkdir()
(pathlib.Path('d') / 'n.txt').write_text('né\n')
print(rows[0], len(rows), db.execute('select * from t').fetchall())
# %%
# expect: OK
# text: né ['d', 't.csv'] True\n
# T2 expect: PY_ERROR
# T2 text: -
with tempfile.NamedTemporaryFile('w+') as f:
    f.write('x')
    f.seek(0)
    same = f.read() == 'x'
print(open('d/n.txt').read().strip(), sorted(os.listdir()), same)
