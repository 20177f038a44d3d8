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
"""Gives the values of a window of tensor number .0, flat, in its dtype; a tensor may be read more than once."""


def value_at(tensor: NDArray[np.integer], *place: int) -> int:
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
    """Value of the element with this row-major index; in which order it reads its windows is part of the rule."""


Refutes = Callable[[Shapes, Attributes, int, int, int, Read], bool]
"""(shapes, attributes, index, claimed value, witness, read) -> whether the witness shows that the value is wrong."""


@dataclass(frozen=True, slots=True)
class WitnessRule:
    """How a wrong element is refuted without recomputing it: for values that depend on more than a leaf holds.

    A witness is one number whose meaning is the operator's: an index of another entry, another triangle.
    No witness refutes the right value; every wrong one is refuted by the witness that `choose` names.
    """

    name: str
    """The operator's."""
    reads: Callable[[Shapes, Attributes], tuple[int, ...]]
    """Number of elements that are read of each tensor at most."""
    refutes: Refutes
    """Raises TensorOutOfRange for a value that the operator does not take: then no value is right."""
    choose: Callable[[int, int], int]
    """(right value, claimed value) -> the witness that refutes the claim, where they differ."""
