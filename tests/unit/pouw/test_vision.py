"""Image operators against loops over every pixel."""

from math import floor

import numpy as np
import pytest

from pouw.operators import vision
from pouw.operators.errors import AttributeOutOfRange, WrongDtype, WrongShape
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import TensorType
from pouw.trace import INT8, INT16, INT32, INT64, UINT8


def picture(height, width, channels, dtype=np.int16):
    bounds = np.iinfo(dtype)
    values = np.random.default_rng(5).integers(bounds.min, bounds.max, (height, width, channels), endpoint=True)
    values.reshape(-1)[:2] = bounds.min, bounds.max
    return values.astype(dtype)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint8])
@pytest.mark.parametrize(("size", "stride", "padding"), [(1, 1, 0), (3, 1, 1), (2, 2, 0), (3, 2, 2), (4, 3, 1)])
def test_patches_are_the_squares_in_order(dtype, size, stride, padding):
    image = picture(5, 7, 2, dtype)
    rows = []
    for top in range(-padding, 5 + padding - size + 1, stride):
        for left in range(-padding, 7 + padding - size + 1, stride):
            square = [(top + y, left + x) for y in range(size) for x in range(size)]
            inside = [0 <= y < 5 and 0 <= x < 7 for y, x in square]
            rows.append(
                [int(image[y, x, c]) if ok else 0 for (y, x), ok in zip(square, inside, strict=True) for c in (0, 1)]
            )
    found = vision.patches(image, size, stride, padding)
    assert found.tolist() == rows
    types = (TensorType({"int8": INT8, "int16": INT16, "uint8": UINT8}[image.dtype.name], image.shape),)
    inferred = RULE_BY_NAME["patches"].output_type(types, (size, stride, padding))
    assert (inferred.dtype.name, inferred.shape) == (found.dtype.name, found.shape)


def test_a_product_of_patches_is_the_convolution():
    image, kernel = picture(6, 5, 3, np.int8), picture(3, 3, 3, np.int8)
    product = vision.patches(image, 3, 1, 0).astype(np.int32) @ kernel.reshape(-1).astype(np.int32)
    for i in range(4):
        for j in range(3):
            square = image[i : i + 3, j : j + 3].astype(np.int32)
            assert product[i * 3 + j] == (square * kernel.astype(np.int32)).sum()


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (2, 2), (3, 2), (5, 1)])
def test_pools_are_the_maximum_and_the_rounded_mean(size, stride):
    image = picture(5, 6, 2)
    most, mean = vision.max_pool(image, size, stride), vision.average_pool(image, size, stride)
    assert most.dtype == mean.dtype == np.int16
    inferred = RULE_BY_NAME["max_pool"].output_type((TensorType(INT16, image.shape),), (size, stride))
    assert inferred.shape == most.shape == mean.shape
    for i, j, c in np.ndindex(*most.shape):
        square = image[i * stride :, j * stride :, c][:size, :size].astype(int)
        assert most[i, j, c] == square.max()
        assert mean[i, j, c] == floor((2 * int(square.sum()) + size * size) / (2 * size * size))


def test_a_mean_of_extremes_stays_in_range():
    for value in (-(2**15), 2**15 - 1):
        image = np.full((64, 64, 1), value, dtype=np.int16)
        assert vision.average_pool(image, 64, 1).tolist() == [[[value]]]


def test_pixels_are_scaled_and_clamped_per_channel():
    image = np.array([[[0, 255]], [[128, 1]]], dtype=np.uint8)
    found = vision.normalize_pixels(image, np.array([3, 2**31 - 1], np.int32), np.array([-1, 5], np.int32), 1)
    assert found.tolist() == [[[0, 2**15 - 1]], [[192, 2**15 - 1]]]


def test_rows_are_cut_and_joined():
    x = np.arange(12, dtype=np.int16).reshape(4, 3)
    assert vision.concat_rows(vision.slice_rows(x, 0, 1), vision.slice_rows(x, 1, 3)).tolist() == x.tolist()
    assert vision.rectify(x - 5).min() == 0
    assert vision.reshape(x, 2, 6, 0).shape == (2, 6)
    assert vision.reshape(x, 2, 3, 2).reshape(-1).tolist() == list(range(12))


@pytest.mark.parametrize(
    ("name", "types", "attributes", "error"),
    [
        ("patches", [TensorType(INT64, (5, 5, 1))], (3, 1, 0), WrongDtype),
        ("patches", [TensorType(INT16, (5, "S", 1))], (3, 1, 0), WrongShape),
        ("patches", [TensorType(INT16, (5, 5))], (3, 1, 0), WrongShape),
        ("patches", [TensorType(INT16, (5, 5, 1))], (6, 1, 0), AttributeOutOfRange),
        ("patches", [TensorType(INT16, (5, 5, 1))], (3, 0, 0), AttributeOutOfRange),
        ("patches", [TensorType(INT16, (5, 5, 1))], (3, 1, -1), AttributeOutOfRange),
        ("max_pool", [TensorType(INT8, (5, 5, 1))], (3, 1), WrongDtype),
        ("average_pool", [TensorType(INT16, (2**15, 5, 1))], (3, 1), WrongShape),
        ("reshape", [TensorType(INT32, (4, 3))], (5, 2, 0), WrongShape),
        ("reshape", [TensorType(INT32, (4, 3))], (12, 0, 0), AttributeOutOfRange),
        ("slice_rows", [TensorType(INT16, (4, 3))], (3, 2), AttributeOutOfRange),
        ("concat_rows", [TensorType(INT16, (4, 3)), TensorType(INT16, (4, 2))], (), WrongShape),
        ("concat_rows", [TensorType(INT16, (2**31 - 1, 3)), TensorType(INT16, (4, 3))], (), WrongShape),
        ("rectify", [TensorType(INT32, (4, 3))], (), WrongDtype),
        ("normalize_pixels", [TensorType(UINT8, (4, 3, 2)), *[TensorType(INT32, (3,))] * 2], (1,), WrongShape),
    ],
)
def test_what_does_not_fit_is_named(name, types, attributes, error):
    with pytest.raises(error):
        RULE_BY_NAME[name].output_type(types, attributes)
