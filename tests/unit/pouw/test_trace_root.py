"""Tensor roots bind dtype, shape and bytes."""

import numpy as np
import pytest
from blake3 import blake3

from chain.hashing import H
from pouw.trace import (
    DTYPES,
    INT8,
    UINT8,
    ShapeRefusedByRoot,
    UnknownDType,
    dtype_by_code,
    dtype_by_name,
    leaf_count,
    root_of_bytes,
    tensor_root,
)


def test_root_is_the_formula():
    array = np.arange(3000, dtype=np.int16).reshape(3, 1000)
    form = bytes([2, 2]) + (3).to_bytes(4, "little") + (1000).to_bytes(4, "little")
    digest = blake3(array.astype("<i2").tobytes()).digest()
    assert tensor_root(array) == H("tensor", form, (6).to_bytes(8, "little"), digest)


def test_codes_are_fixed():
    assert [(dtype.code, dtype.name) for dtype in DTYPES] == [
        (1, "int8"),
        (2, "int16"),
        (3, "int32"),
        (4, "int64"),
        (5, "uint8"),
    ]
    for dtype in DTYPES:
        assert dtype_by_code(dtype.code) is dtype_by_name(dtype.name)
        assert dtype.size_bytes == np.dtype(dtype.name).itemsize


def test_same_bytes_under_another_shape_or_dtype_have_another_root():
    data = bytes(range(24))
    roots = {root_of_bytes(INT8, shape, data) for shape in ((24,), (2, 12), (12, 2), (1, 24), (24, 1))}
    roots.add(root_of_bytes(UINT8, (24,), data))
    assert len(roots) == 6


def test_row_major_whatever_the_layout():
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    assert tensor_root(np.asfortranarray(array)) == tensor_root(array)
    assert tensor_root(array.astype(">i4")) == tensor_root(array)
    assert tensor_root(array.T) != tensor_root(array)


def test_leaves():
    assert [leaf_count(size) for size in (0, 1, 1024, 1025)] == [1, 1, 1, 2]


def test_refusals():
    with pytest.raises(UnknownDType):
        tensor_root(np.zeros(3, np.float32))
    with pytest.raises(UnknownDType):
        dtype_by_code(6)
    with pytest.raises(ShapeRefusedByRoot):
        root_of_bytes(INT8, (2, 2), b"123")
    with pytest.raises(ShapeRefusedByRoot):
        root_of_bytes(INT8, (-1,), b"")
    with pytest.raises(ShapeRefusedByRoot):
        root_of_bytes(INT8, (0, 2**32), b"")
