"""Operators of image models: their rows of the table, with types and bounds."""

from math import prod

from pouw.operators import vision
from pouw.operators.errors import WrongDtype, WrongShape
from pouw.operators.rule import Attributes, OperatorRule, Types
from pouw.operators.types import TensorType, check_attribute, check_number, check_tensor
from pouw.trace import INT8, INT16, INT32, UINT8, DType

SIDE_MAX = 2**14
CHANNELS_MAX = 2**16
SQUARE_MAX = 64
PADDING_MAX = 64
DIMENSION_MAX = 2**31 - 1


def _normalize_pixels(tensors: Types, attributes: Attributes) -> TensorType:
    image, multipliers, offsets = tensors
    check_tensor("image", image, UINT8, (None, None, None))
    check_tensor("multipliers", multipliers, INT32, (image.shape[2],))
    check_tensor("offsets", offsets, INT32, (image.shape[2],))
    check_attribute("shift", attributes[0], 1, 40)
    return TensorType(INT16, image.shape)


def _patches(tensors: Types, attributes: Attributes) -> TensorType:
    size, stride, padding = attributes
    check_attribute("padding", padding, 0, PADDING_MAX)
    height, width, channels = _check_image(tensors[0], (INT8, INT16, UINT8), size, stride, padding)
    return TensorType(tensors[0].dtype, (height * width, size * size * channels))


def _pool(tensors: Types, attributes: Attributes) -> TensorType:
    size, stride = attributes
    return TensorType(INT16, _check_image(tensors[0], (INT16,), size, stride, 0))


def _rectify(tensors: Types, _: Attributes) -> TensorType:
    _check_dtype("x", tensors[0], (INT16,))
    return tensors[0]


def _concat_rows(tensors: Types, _: Attributes) -> TensorType:
    x, y = tensors
    check_tensor("x", x, INT16, (None, None))
    check_tensor("y", y, INT16, (None, x.shape[1]))
    rows = check_number("rows", x.shape[0], 1, DIMENSION_MAX) + check_number("rows", y.shape[0], 1, DIMENSION_MAX)
    return TensorType(INT16, (check_number("rows", rows, 1, DIMENSION_MAX), x.shape[1]))


def _slice_rows(tensors: Types, attributes: Attributes) -> TensorType:
    first, count = attributes
    check_tensor("x", tensors[0], INT16, (None, None))
    rows = check_number("rows", tensors[0].shape[0], 1, DIMENSION_MAX)
    check_attribute("first", first, 0, rows - 1)
    check_attribute("count", count, 1, rows - first)
    return TensorType(INT16, (count, tensors[0].shape[1]))


def _reshape(tensors: Types, attributes: Attributes) -> TensorType:
    first, second, third = attributes
    _check_dtype("x", tensors[0], (INT8, INT16, INT32, UINT8))
    sizes = [check_number("dimension", size, 1, DIMENSION_MAX) for size in tensors[0].shape]
    check_attribute("first", first, 1, DIMENSION_MAX)
    check_attribute("second", second, 1, DIMENSION_MAX)
    check_attribute("third", third, 0, DIMENSION_MAX)
    shape = (first, second, third) if third else (first, second)
    if prod(sizes) != prod(shape):
        raise WrongShape("reshape", tensors[0], list(shape))
    return TensorType(tensors[0].dtype, shape)


def _check_image(
    image: TensorType, dtypes: tuple[DType, ...], size: int, stride: int, padding: int
) -> tuple[int, int, int]:
    """Return (squares down, squares across, channels)."""
    _check_dtype("image", image, dtypes)
    check_tensor("image", image, image.dtype, (None, None, None))
    height, width = (check_number("side", side, 1, SIDE_MAX) for side in image.shape[:2])
    channels = check_number("channels", image.shape[2], 1, CHANNELS_MAX)
    check_attribute("size", size, 1, min(SQUARE_MAX, height + 2 * padding, width + 2 * padding))
    check_attribute("stride", stride, 1, SQUARE_MAX)
    return (height + 2 * padding - size) // stride + 1, (width + 2 * padding - size) // stride + 1, channels


def _check_dtype(what: str, tensor: TensorType, dtypes: tuple[DType, ...]) -> None:
    if tensor.dtype not in dtypes:
        raise WrongDtype(what, tensor.dtype.name, [dtype.name for dtype in dtypes])


_SQUARES = ("size", "stride")

RULES = (
    OperatorRule(30, "normalize_pixels", 3, ("shift",), _normalize_pixels, vision.normalize_pixels),
    OperatorRule(31, "patches", 1, (*_SQUARES, "padding"), _patches, vision.patches),
    OperatorRule(32, "max_pool", 1, _SQUARES, _pool, vision.max_pool),
    OperatorRule(33, "average_pool", 1, _SQUARES, _pool, vision.average_pool),
    OperatorRule(34, "rectify", 1, (), _rectify, vision.rectify),
    OperatorRule(35, "concat_rows", 2, (), _concat_rows, vision.concat_rows),
    OperatorRule(36, "slice_rows", 1, ("first", "count"), _slice_rows, vision.slice_rows),
    OperatorRule(37, "reshape", 1, ("first", "second", "third"), _reshape, vision.reshape),
)
