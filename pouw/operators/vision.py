"""Images in, features out: pixels to numbers, patches (for convolution and patch embedding), pooling, rows, shapes.

Images are [height, width, channels]. A convolution is `patches`, then a product with [n, size * size * channels].
"""

from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pouw.operators.arithmetic import Int16, Int32, Int64, clamp16, round_shift

UInt8 = NDArray[np.uint8]
AnyTensor = TypeVar("AnyTensor", bound=NDArray[np.integer])


def normalize_pixels(image: UInt8, multipliers: Int32, offsets: Int32, shift: int) -> Int16:
    """Return clamp16(rsh(pixel * multiplier + offset, shift)) per channel.

    image: uint8[h, w, c], multipliers, offsets: int32[c] -> int16[h, w, c]. |sum| <= 2^8 * 2^31 + 2^31 < 2^40.
    One element: one entry of each.
    """
    wide = image.astype(np.int64) * multipliers.astype(np.int64) + offsets.astype(np.int64)  # (h, w, c)
    return clamp16(round_shift(wide, shift))


def patches(image: AnyTensor, size: int, stride: int, padding: int) -> AnyTensor:
    """Return the size x size squares of an image as rows, left to right, then down; zeros beyond its border.

    image: int8, int16 or uint8 [h, w, c] -> [oh * ow, size * size * c], oh = floor((h + 2 * padding - size) / stride)
    + 1, ow likewise. Row (i * ow + j), column ((y * size + x) * c + channel) is the pixel (i * stride + y - padding,
    j * stride + x - padding). No arithmetic. One element: one entry of the image, or none.
    """
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(0, 1))[::stride, ::stride]
    ordered = views.transpose(0, 1, 3, 4, 2)  # (oh, ow, size, size, c)
    made = np.ascontiguousarray(ordered).reshape(ordered.shape[0] * ordered.shape[1], -1)
    return cast("AnyTensor", made)


def max_pool(image: Int16, size: int, stride: int) -> Int16:
    """Return the largest value of each size x size square, per channel.

    image: int16[h, w, c] -> int16[oh, ow, c], oh = floor((h - size) / stride) + 1, ow likewise.
    One element: one square of one channel. In a dispute a witness (a larger entry) refutes it.
    """
    return np.ascontiguousarray(_squares(image, size, stride).max(axis=(3, 4)))


def average_pool(image: Int16, size: int, stride: int) -> Int16:
    """Return the mean of each size x size square, per channel, halves up: floor((2 * sum + n) / (2 * n)), n = size^2.

    image: int16[h, w, c] -> int16[oh, ow, c] as `max_pool`. |2 * sum| < 2^16 * 2^16. A mean lies within int16.
    One element: one square of one channel, at most 2 * 64^2 bytes.
    """
    total: Int64 = _squares(image, size, stride).astype(np.int64).sum(axis=(3, 4))
    count = size * size
    mean: Int16 = ((2 * total + count) // (2 * count)).astype(np.int16)
    return mean


def rectify(x: Int16) -> Int16:
    """Return max(x, 0). int16, any shape. One element: one entry."""
    return np.maximum(x, 0)


def concat_rows(x: Int16, y: Int16) -> Int16:
    """Return the rows of x, then those of y. int16[m, n], int16[p, n] -> int16[m + p, n]. One element: one entry."""
    return np.concatenate([x, y])


def slice_rows(x: Int16, first: int, count: int) -> Int16:
    """Return rows first .. first + count - 1. int16[m, n] -> int16[count, n]. One element: one entry."""
    return np.ascontiguousarray(x[first : first + count])


def reshape(x: AnyTensor, first: int, second: int, third: int) -> AnyTensor:
    """Return the same entries, row-major, as [first, second] (third = 0) or [first, second, third].

    int8, int16, int32 or uint8. One element: one entry.
    """
    return cast("AnyTensor", x.reshape((first, second, third) if third else (first, second)))


def _squares(image: Int16, size: int, stride: int) -> Int16:
    return np.lib.stride_tricks.sliding_window_view(image, (size, size), axis=(0, 1))[::stride, ::stride]
