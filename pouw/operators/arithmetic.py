"""Rounding, roots and clamps, by value. All arithmetic is int64 in two's complement.

Every operator states why no intermediate leaves int64 for the tensors of a compiled graph. Outside of that argument the
value is still defined (it wraps), so that no input of a stranger can make two machines differ.
"""

from math import isqrt

import numpy as np
from numpy.typing import NDArray

from pouw.operators.errors import TensorOutOfRange

Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]

INT16_MAX = 32_767
INT32_MAX = 2**31 - 1


def round_shift(x: Int64, n: int) -> Int64:
    """Return floor((x + 2^(n-1)) / 2^n): a division by 2^n that rounds halves up. n >= 1."""
    return (x + (1 << (n - 1))) >> n


def floor_root(x: Int64) -> Int64:
    """Return for each x >= 0 the largest r with r * r <= x."""
    roots = [isqrt(int(value)) for value in x.reshape(-1)]
    return np.array(roots, dtype=np.int64).reshape(x.shape)


def clamp16(x: Int64, limit: int = INT16_MAX) -> Int16:
    """Return x with everything beyond -limit and limit moved to that bound."""
    return np.clip(x, -limit, limit).astype(np.int16)


def check_values(what: str, x: NDArray[np.signedinteger], low: int, high: int) -> None:
    """Refuse a tensor with an entry outside of [low, high].

    Raises:
        TensorOutOfRange: with the offending value.
    """
    if x.size and (int(x.min()) < low or int(x.max()) > high):
        got = int(x.min()) if int(x.min()) < low else int(x.max())
        raise TensorOutOfRange(what, got, f"{low} .. {high}")
