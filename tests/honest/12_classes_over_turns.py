# expect: OK
# text: -
from dataclasses import dataclass, field
from enum import Enum
import abc

class Shape(Enum):
    SQUARE = 1
    ROUND = 2

@dataclass(order=True)
class Box:
    x: int
    shape: Shape = field(default=Shape.SQUARE, compare=False)
    @property
    def double(self): return 2 * self.x

class Base(abc.ABC):
    @abc.abstractmethod
    def name(self): ...
# %%
# expect: OK
# text: -
class Derived(Base):
    count = 0
    def __init__(self): type(self).count += 1
    def name(self): return f'{super().__class__.__name__} {self.count}'
boxes = [Box(3), Box(1, Shape.ROUND)]
# %%
# expect: OK
# text: [Box(x=1, shape=<Shape.ROUND: 2>), Box(x=3, shape=<Shape.SQUARE: 1>)] 6\n
print(sorted(boxes), boxes[0].double)
# %%
# expect: OK
# text: super 1 1\n
import copy, pickle
d = Derived()
print(d.name(), copy.deepcopy(d).count)
# %%
# expect: OK
# text: True True\n
again = pickle.loads(pickle.dumps(boxes))
print(again == boxes, again[1].shape is Shape.ROUND)
