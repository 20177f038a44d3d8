"""A decoder's layers around its attention: an int32 residual stream, RMS norm, rotary positions, gating.

The stream is int32 in a fixed point that the compiler chooses, held within +-2^24. Operators that depend on a position
take it from shapes alone: with m rows in work and n rows so far, row i stands at position n - m + i.
"""

import numpy as np

from pouw.operators.arithmetic import INT16_MAX, INT32_MAX, Int16, Int32, Int64, clamp16, floor_root, round_shift
from pouw.operators.errors import TensorOutOfRange
from pouw.operators.norm import scaled_root

STREAM_MAX = 2**24
RMS_WIDTH_MAX = 2**13  # n * 2^48 + epsilon < 2^63
EPSILON_MAX = 2**60
ROTATION_BITS = 14


def widen(x: Int16, shift: int) -> Int32:
    """Return x * 2^shift. x: int16[m, n] -> int32[m, n]; |y| <= 2^15 * 2^9 = 2^24. One element: one entry of x."""
    return (x.astype(np.int64) << shift).astype(np.int32)


def rescale_wide(product: Int32, maximum: Int32, multipliers: Int32, bias: Int32, shift: int) -> Int32:
    """Return a product of quantised operands in a fixed point of 32 bits.

    product: int32[m, n], maximum: int32[m], multipliers, bias: int32[n] -> int32[m, n] in [-(2^31 - 1), 2^31 - 1].
    `y = clamp(rsh(product * maximum * multiplier, shift) + bias)`. The compiler holds multipliers so small that with
    |product| <= k * q_max^2 and maximum <= 2^23 the triple product is below 2^62.
    One element: one entry of each tensor.
    """
    wide = product.astype(np.int64) * maximum.astype(np.int64)[:, None] * multipliers.astype(np.int64)  # (m, n)
    y = round_shift(wide, shift) + bias.astype(np.int64)
    return np.clip(y, -INT32_MAX, INT32_MAX).astype(np.int32)


def accumulate(x: Int32, y: Int32) -> Int32:
    """Return x + y, clamped to the stream's [-2^24, 2^24]. int32[m, n] each -> int32[m, n].

    The sum of two int32 fits int64. One element: one entry of each.
    """
    total = x.astype(np.int64) + y.astype(np.int64)
    return np.clip(total, -STREAM_MAX, STREAM_MAX).astype(np.int32)


def rms_norm(v: Int32, gamma: Int32, epsilon: int, shift: int) -> Int16:
    """Return v / root mean square * gamma for each row, in Q.(26 - shift).

    v: int32[m, n], clamped to [-2^24, 2^24]; gamma: int32[n] Q.12 -> int16[m, n].
    `V = sum(v^2) + epsilon`, `R = floor(round(sqrt(n) * 2^40) / max(1, isqrt(V)))`, `y = rsh(v * R, 26)` (Q.14),
    `rsh(y * gamma, shift)`, clamped to int16. V <= 2^61 + 2^60; |v| < isqrt(V) + 1, so v * R < 2^48 and |y| <= 2^22:
    y * gamma is below 2^53.
    One element: one row of v, one entry of gamma.
    """
    n = v.shape[1]
    wide = np.clip(v.astype(np.int64), -STREAM_MAX, STREAM_MAX)
    root = np.maximum(floor_root((wide * wide).sum(axis=1) + epsilon), 1)  # (m,)
    reciprocal = scaled_root(n) // root  # (m,)
    y = round_shift(wide * reciprocal[:, None], 26)  # (m, n)
    return clamp16(round_shift(y * gamma.astype(np.int64), shift))


def rope(x: Int16, so_far: Int32, table: Int16, heads: int, head_size: int, offset: int) -> Int16:
    """Return columns offset .. of x, each head's pairs (d, d + head_size / 2) turned by the angle of their position.

    x: int16[m, *], so_far: int32[n] (only its length counts), table: int16[positions, head_size] in Q.14, cosines of
    the head_size / 2 angles before their sines -> int16[m, heads * head_size].
    `first' = rsh(first * cos - second * sin, 14)`, `second' = rsh(second * cos + first * sin, 14)`, clamped to int16.
    |sum| <= 2 * 2^15 * 2^15 = 2^31.
    One element: one pair of x and one of the table.

    Raises:
        TensorOutOfRange: more positions than the table has, or fewer rows so far than rows in work.
    """
    m, n = x.shape[0], so_far.shape[0]
    check_turns(m, n, table.shape[0])
    half = head_size // 2
    angles = table[n - m : n].astype(np.int64)[:, None, :]  # (m, 1, head_size)
    cosines, sines = angles[..., :half], angles[..., half:]
    pairs = x[:, offset : offset + heads * head_size].astype(np.int64).reshape(m, heads, head_size)
    first, second = pairs[..., :half], pairs[..., half:]  # (m, heads, half)
    turned = np.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=2)
    return clamp16(round_shift(turned, ROTATION_BITS)).reshape(m, heads * head_size)


def check_turns(m: int, n: int, positions: int) -> None:
    """Refuse m rows in work among n so far with so many positions.

    Raises:
        TensorOutOfRange: more positions than the table has, or fewer rows so far than rows in work.
    """
    if not m <= n <= positions:
        raise TensorOutOfRange("rows so far", n, f"{m} .. {positions}")


def transpose_columns(x: Int16, offset: int, count: int) -> Int16:
    """Return columns offset .. offset + count of x as rows: what is read by columns is stored transposed.

    x: int16[m, *] -> int16[count, m]. One element: one entry of x.
    """
    return np.ascontiguousarray(x[:, offset : offset + count].T)


def gated_product(x: Int16, y: Int16, shift: int) -> Int16:
    """Return rsh(x * y, shift), clamped to int16. int16[m, n] each -> int16[m, n]; |x * y| <= 2^30.

    One element: one entry of each.
    """
    wide: Int64 = x.astype(np.int64) * y.astype(np.int64)
    return clamp16(round_shift(wide, shift), INT16_MAX)


def last_row(x: Int32) -> Int32:
    """Return the last row. x: int32[m, n] -> int32[1, n]. One element: one entry of x."""
    return np.ascontiguousarray(x[-1:])
