# expect: OK
# text: {"b": 2, "a": [1, 2.5, null]} [('l', 3), ('o', 2)] deque([3, 1, 2]) Point(x=1, y=2) 3.5\n
import bisect, collections, fractions, heapq, itertools, json, math, re, statistics
Point = collections.namedtuple('Point', 'x y')
d = collections.deque([1, 2, 3])
d.rotate()
print(json.dumps({'b': 2, 'a': [1, 2.5, None]}), collections.Counter('hello world').most_common(2), d, Point(1, 2),
      statistics.mean([3, 4]))
# %%
# expect: OK
# text: [1, 2] 10 ['12', '7'] 1/2 720 6\n
print(heapq.nsmallest(2, [5, 1, 2]), sum(itertools.chain([1, 2], [3, 4])), re.findall(r'\d+', 'a12 b7'), fractions.Fraction(3, 6),
      math.factorial(6), len(list(itertools.permutations('abc'))))
