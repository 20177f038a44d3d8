"""One element of the image operators: one entry, or one square of one channel. Nothing here needs a witness."""

import numpy as np

from pouw.operators import vision
from pouw.operators.element import Attributes, ElementRule, Read, Shapes, Window, value_at


def _normalize_pixels(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    channel = index % shapes[0][2]
    pixel, multiplier, offset = read(0, Window(index)), read(1, Window(channel)), read(2, Window(channel))
    return value_at(vision.normalize_pixels(pixel.astype(np.uint8, copy=False), multiplier, offset, *attributes), 0)


def _patches(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    size, stride, padding = attributes
    height, width, channels = shapes[0]
    across = (width + 2 * padding - size) // stride + 1
    row, column = divmod(index, size * size * channels)
    place, channel = divmod(column, channels)
    y, x = row // across * stride + place // size - padding, row % across * stride + place % size - padding
    inside = 0 <= y < height and 0 <= x < width
    # beyond the border any pixel is read, and counts for nothing
    pixel = read(0, Window((y * width + x) * channels + channel if inside else channel))
    return value_at(pixel, 0) if inside else 0


def _square(shapes: Shapes, attributes: Attributes, index: int) -> Window:
    size, stride = attributes
    _, width, channels = shapes[0]
    across = (width - size) // stride + 1
    place, channel = divmod(index, channels)
    start = (place // across * stride * width + place % across * stride) * channels + channel
    return Window(start, 1, size, channels, size, width * channels)


def _max_pool(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    size = attributes[0]
    square = read(0, _square(shapes, attributes, index)).reshape(size, size, 1)
    return value_at(vision.max_pool(square, size, 1), 0, 0, 0)


def _average_pool(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    size = attributes[0]
    square = read(0, _square(shapes, attributes, index)).reshape(size, size, 1)
    return value_at(vision.average_pool(square, size, 1), 0, 0, 0)


def _rectify(_: Shapes, __: Attributes, index: int, read: Read) -> int:
    return value_at(vision.rectify(read(0, Window(index))), 0)


def _concat_rows(shapes: Shapes, _: Attributes, index: int, read: Read) -> int:
    split = shapes[0][0] * shapes[0][1]
    first, second = read(0, Window(min(index, split - 1))), read(1, Window(max(index - split, 0)))
    return value_at(first if index < split else second, 0)


def _slice_rows(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    return value_at(read(0, Window(attributes[0] * shapes[0][1] + index)), 0)


def _reshape(_: Shapes, __: Attributes, index: int, read: Read) -> int:
    return value_at(read(0, Window(index)), 0)


RULES = (
    ElementRule("normalize_pixels", lambda _, __: (1, 1, 1), _normalize_pixels),
    ElementRule("patches", lambda _, __: (1,), _patches),
    ElementRule("max_pool", lambda _, attributes: (attributes[0] ** 2,), _max_pool),
    ElementRule("average_pool", lambda _, attributes: (attributes[0] ** 2,), _average_pool),
    ElementRule("rectify", lambda _, __: (1,), _rectify),
    ElementRule("concat_rows", lambda _, __: (1, 1), _concat_rows),
    ElementRule("slice_rows", lambda _, __: (1,), _slice_rows),
    ElementRule("reshape", lambda _, __: (1,), _reshape),
)
