"""Commitments to tensors: what a root binds, and how bytes become one.

Decides the dtype codes and the tensor root; leaves openings to `pouw/ticket.py` and `core/`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from chain.errors import OutOfRange
from chain.hashing import H

LEAF_BYTES = 1024  # BLAKE3's own chunk: committing is one library call
MAX_RANK = 8  # more than any operator takes
MAX_DIMENSION = 2**32 - 1  # dimensions are u32 in the root


@dataclass(frozen=True, slots=True)
class DType:
    """One of the integer types that a committed tensor may have."""

    code: int
    """The byte that the tensor root binds."""
    name: str
    """numpy's name; elements are little-endian, two's complement."""
    size_bytes: int
    """Bytes of one element."""


INT8 = DType(1, "int8", 1)
INT16 = DType(2, "int16", 2)
INT32 = DType(3, "int32", 4)
INT64 = DType(4, "int64", 8)
UINT8 = DType(5, "uint8", 1)
DTYPES = (INT8, INT16, INT32, INT64, UINT8)


class UnknownDType(OutOfRange):
    """The dtype is none that a tensor root can bind."""


class ShapeRefusedByRoot(OutOfRange):
    """The shape does not fit into a tensor root, or not to the data."""


def dtype_by_code(code: int) -> DType:
    """Look a dtype up by its code.

    Raises:
        UnknownDType: no dtype has this code.
    """
    for dtype in DTYPES:
        if dtype.code == code:
            return dtype
    raise UnknownDType("dtype code", code, "1 to 5")


def dtype_by_name(name: str) -> DType:
    """Look a dtype up by numpy's name.

    Raises:
        UnknownDType: the tensor has another type than the five.
    """
    for dtype in DTYPES:
        if dtype.name == name:
            return dtype
    raise UnknownDType("dtype", name, [dtype.name for dtype in DTYPES])


def size_of(dtype: DType, shape: Sequence[int]) -> int:
    """Bytes of a tensor of this dtype and shape.

    Raises:
        ShapeRefusedByRoot: rank or a dimension is out of bounds.
    """
    if len(shape) > MAX_RANK:
        raise ShapeRefusedByRoot("rank", len(shape), f"at most {MAX_RANK}")
    size_bytes = dtype.size_bytes
    for dimension in shape:
        if not 0 <= dimension <= MAX_DIMENSION:
            raise ShapeRefusedByRoot("dimension", dimension, f"0 to {MAX_DIMENSION}")
        size_bytes *= dimension
    return size_bytes


def leaf_count(size_bytes: int) -> int:
    """Chunks of BLAKE3's tree; empty data has one empty chunk."""
    return max(1, -(-size_bytes // LEAF_BYTES))


def root_of_digest(dtype: DType, shape: Sequence[int], digest: bytes) -> bytes:
    """Tensor root from the BLAKE3 digest of the tensor's bytes.

    Source: protocol.md, When results differ; docs/spec/ticket.md, Tensor root.

    Raises:
        ShapeRefusedByRoot: rank or a dimension is out of bounds.
    """
    size_bytes = size_of(dtype, shape)
    form = bytes((dtype.code, len(shape))) + b"".join(int(dimension).to_bytes(4, "little") for dimension in shape)
    return H("tensor", form, leaf_count(size_bytes).to_bytes(8, "little"), digest)


def root_of_bytes(dtype: DType, shape: Sequence[int], data: bytes | memoryview) -> bytes:
    """Tensor root from row-major little-endian bytes.

    Raises:
        ShapeRefusedByRoot: rank or a dimension is out of bounds, or the data has another length.
    """
    if len(data) != size_of(dtype, shape):
        raise ShapeRefusedByRoot("bytes of tensor", len(data), size_of(dtype, shape))
    return root_of_digest(dtype, shape, blake3(data, max_threads=blake3.AUTO).digest())


def tensor_root(array: npt.NDArray[np.integer]) -> bytes:
    """Tensor root of an array, hashed in row-major order.

    Raises:
        UnknownDType: the array has another type than the five.
        ShapeRefusedByRoot: rank or a dimension is out of bounds.
    """
    dtype = dtype_by_name(array.dtype.name)
    rows = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return root_of_bytes(dtype, array.shape, rows.reshape(-1).view(np.uint8).data)
