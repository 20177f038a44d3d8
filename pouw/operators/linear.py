"""Quantise, multiply, rescale, add: what a linear layer is made of."""

import numpy as np

from pouw.operators.arithmetic import (
    INT32_MAX,
    Int8,
    Int16,
    Int32,
    Int64,
    check_values,
    clamp16,
    round_shift,
)

FACTOR_MAX = 256
MINING_OPERAND_MAX = 64  # 7-bit operands: with noise in [-64, 63] they still fit int8
QUANTIZE_BITS = 30


def row_maximum(x: Int16, factors: Int16) -> Int32:
    """Return max(1, max over j of |x[i, j] * factors[j]|) for each row.

    x: int16[m, n], factors: int16[n] in 1 .. 256 -> int32[m]. At most 2^23.
    One element: one row of x. In a dispute a witness j refutes it.
    """
    check_values("factors", factors, 1, FACTOR_MAX)
    wide = np.abs(x.astype(np.int64) * factors.astype(np.int64))  # (m, n)
    maximum: Int64 = np.maximum(wide.max(axis=1), 1)
    return maximum.astype(np.int32)


def quantize(x: Int16, maximum: Int32, factors: Int16, q_max: int) -> Int8:
    """Return x * factor as a fraction of its row's maximum, in units of 1 / q_max.

    x: int16[m, n], maximum: int32[m] >= 1, factors: int16[n] -> int8[m, n] in [-q_max, q_max].
    `r = floor(q_max * 2^30 / maximum)`, `q = clamp(rsh(x * factor * r, 30))`.
    |x * factor| <= 2^23 and r < 2^37, so the product is below 2^60.
    One element: one entry of each tensor.
    """
    check_values("factors", factors, 1, FACTOR_MAX)
    check_values("maximum", maximum, 1, INT32_MAX)
    reciprocal = (q_max << QUANTIZE_BITS) // maximum.astype(np.int64)  # (m,)
    wide = x.astype(np.int64) * factors.astype(np.int64) * reciprocal[:, None]  # (m, n)
    return np.clip(round_shift(wide, QUANTIZE_BITS), -q_max, q_max).astype(np.int8)


def matmul(a: Int8, b_transposed: Int8, mining: int) -> Int32:
    """Return a @ b, the product that may be mined.

    a: int8[m, k], b_transposed: int8[n, k] -> int32[m, n]. With `mining` = 1 all operands lie in [-64, 64].
    |sum| <= k * 2^14 < 2^31, since the graph's check holds k below 2^17.
    One element: one row of each operand, 2k bytes.
    """
    if mining:
        check_values("mining operand A", a, -MINING_OPERAND_MAX, MINING_OPERAND_MAX)
        check_values("mining operand B", b_transposed, -MINING_OPERAND_MAX, MINING_OPERAND_MAX)
    product: Int32 = a.astype(np.int32) @ b_transposed.astype(np.int32).T  # (m, k) @ (k, n) -> (m, n)
    return product


def rescale(product: Int32, maximum: Int32, multipliers: Int32, bias: Int32, shift: int, limit: int) -> Int16:
    """Return a product of quantised operands in the fixed point of the next operator.

    product: int32[m, n], maximum: int32[m], multipliers, bias: int32[n] -> int16[m, n] in [-limit, limit].
    `y = clamp(rsh(product * maximum * multiplier, shift) + bias)`. The compiler holds multipliers below 2^17; with
    |product| <= k * q_max^2 < 2^23 and maximum <= 2^23 the triple product is below 2^63.
    One element: one entry of each tensor.
    """
    wide = product.astype(np.int64) * maximum.astype(np.int64)[:, None] * multipliers.astype(np.int64)  # (m, n)
    return clamp16(round_shift(wide, shift) + bias.astype(np.int64), limit)


def add(x: Int16, y: Int16) -> Int32:
    """Return x + y. int16[m, n] each -> int32[m, n]; 17 bits always fit. One element: one entry of each."""
    return x.astype(np.int32) + y.astype(np.int32)
