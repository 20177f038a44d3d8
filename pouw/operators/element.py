"""How a family states one element of an operator: a row of the tables in `elements_<family>.py`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pouw.operators.types import Tensor

Shapes = Sequence[tuple[int, ...]]
Attributes = Sequence[int]


@dataclass(frozen=True, slots=True)
class Window:
    """Elements of one tensor, row-major: `count` runs of `run` elements, `stride` apart; that `rows` times."""

    start: int
    run: int = 1
    count: int = 1
    stride: int = 0
    rows: int = 1
    pitch: int = 0
    """From one of the `rows` to the next."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.run * self.count * self.rows

    def starts(self) -> NDArray[np.int64]:
        """Return the flat index of each run's first element, in order."""
        down = self.pitch * np.arange(self.rows, dtype=np.int64)
        across = self.stride * np.arange(self.count, dtype=np.int64)
        return (self.start + down[:, None] + across).reshape(-1)

    def indices(self) -> NDArray[np.int64]:
        """Return the flat indices of the elements, in order."""
        return (self.starts()[:, None] + np.arange(self.run, dtype=np.int64)).reshape(-1)

    def byte_ranges(self, size_bytes: int) -> tuple[tuple[int, int], ...]:
        """Return [start, end) of each run in a tensor with elements of this size; none where nothing is read."""
        if self.size == 0:
            return ()
        return tuple((start * size_bytes, (start + self.run) * size_bytes) for start in self.starts().tolist())


Read = Callable[[int, Window], Tensor]
"""Gives the values of a window of tensor number .0, flat."""


def value_at(tensor: Tensor, *place: int) -> int:
    """Return one value of a tensor."""
    return int(tensor[place])


@dataclass(frozen=True, slots=True)
class ElementRule:
    """How one element of an operator's output is recomputed."""

    name: str
    """The operator's."""
    reads: Callable[[Shapes, Attributes], tuple[int, ...]]
    """Number of elements that are read of each tensor: the same for every element of the output."""
    compute: Callable[[Shapes, Attributes, int, Read], int]
    """Value of the element with this row-major index; reads one window of every tensor, in order."""
