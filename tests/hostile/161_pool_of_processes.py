# why: honest use of processes works where the tier has them
# expect: OK
# text: [0, 1, 4, 9]
# T2 expect: PY_ERROR
# T2 text: -
# T2 has: Error
import multiprocessing


def square(x):
    return x * x


with multiprocessing.get_context('fork').Pool(2) as p:
    print(p.map(square, range(4)))
