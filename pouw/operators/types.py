"""Types of tensors (dtype and symbolic shape), polynomials in symbols, and the checks that rules are written with."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pouw.operators.errors import AttributeOutOfRange, WrongDtype, WrongShape
from pouw.trace import DType

Tensor = NDArray[np.signedinteger]
Dimension = int | str  # a size, or the name of a symbol


@dataclass(frozen=True, slots=True)
class TensorType:
    """dtype and shape of a tensor; a dimension may be a symbol."""

    dtype: DType
    shape: tuple[Dimension, ...]

    def at(self, symbols: Mapping[str, int]) -> tuple[int, ...]:
        """Return the shape with every symbol replaced by its value."""
        return tuple([size if isinstance(size, int) else symbols[size] for size in self.shape])

    def __str__(self) -> str:
        return f"{self.dtype.name}[{', '.join(str(size) for size in self.shape)}]"


@dataclass(frozen=True, slots=True)
class Term:
    """coefficient * product of dimensions that are symbols."""

    coefficient: int
    symbols: tuple[str, ...]

    def at(self, symbols: Mapping[str, int]) -> int:
        """Return the value of the term."""
        value = self.coefficient
        for name in self.symbols:
            value *= symbols[name]
        return value


def product(sizes: Iterable[Dimension]) -> Term:
    """Return the product of dimensions as a term; its symbols are sorted."""
    coefficient = 1
    symbols: list[str] = []
    for size in sizes:
        if isinstance(size, int):
            coefficient *= size
        else:
            symbols.append(size)
    return Term(coefficient, tuple(sorted(symbols)))


def check_tensor(what: str, got: TensorType, dtype: DType, shape: tuple[Dimension | None, ...]) -> None:
    """Refuse a tensor type; None in `shape` stands for any dimension.

    Raises:
        WrongDtype, WrongShape.
    """
    if got.dtype != dtype:
        raise WrongDtype(what, got.dtype.name, dtype.name)
    fits = len(got.shape) == len(shape) and all(
        want is None or size == want for size, want in zip(got.shape, shape, strict=True)
    )
    if not fits:
        raise WrongShape(what, got, [("any" if size is None else size) for size in shape])


def check_number(what: str, size: Dimension, low: int, high: int) -> int:
    """Return a dimension that has to be a number within [low, high].

    Raises:
        WrongShape: it is a symbol or out of bounds.
    """
    if not isinstance(size, int) or not low <= size <= high:
        raise WrongShape(what, size, f"a number from {low} to {high}")
    return size


def check_attribute(what: str, value: int, low: int, high: int) -> None:
    """Refuse an attribute outside of [low, high].

    Raises:
        AttributeOutOfRange.
    """
    if not low <= value <= high:
        raise AttributeOutOfRange(what, value, f"{low} .. {high}")
