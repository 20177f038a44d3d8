"""Layer norm, mean pooling, L2 norm."""

from math import isqrt

import numpy as np

from pouw.operators.arithmetic import Int16, Int32, Int64, clamp16, floor_root, round_shift

NORM_INPUT_MAX = 2**16
NORM_WIDTH_MAX = 1024
L2_INPUT_MAX = 2**24
L2_WIDTH_MAX = 2**14


def scaled_root(n: int) -> int:
    """Return round(sqrt(n) * 2^40), exactly."""
    return (isqrt(n << 82) + 1) >> 1


def layer_norm(v: Int32, gamma: Int32, beta: Int32) -> Int16:
    """Return (v - mean) / deviation * gamma + beta for each row, in Q.10.

    v: int32[m, n] in any fixed point, clamped to [-2^16, 2^16]; gamma: int32[n] Q.12; beta: int32[n] Q.26
    -> int16[m, n].
    `c = n * v - sum(v)`, `V = sum(c^2)`, `R = floor(round(sqrt(n) * 2^40) / max(1, isqrt(V)))`,
    `y = rsh(c * R, 26)` (Q.14), `rsh(y * gamma + beta, 16)`, clamped to int16.
    V <= n^3 * 2^32 <= 2^62 for n <= 1024; c * R <= 2 * sqrt(n) * 2^40; |y| <= 2^20, so y * gamma is below 2^51.
    One element: one row of v, one entry of gamma and beta.
    """
    n = v.shape[1]
    wide = np.clip(v.astype(np.int64), -NORM_INPUT_MAX, NORM_INPUT_MAX)
    centered = n * wide - wide.sum(axis=1, keepdims=True)  # (m, n)
    root = np.maximum(floor_root((centered * centered).sum(axis=1)), 1)  # (m,)
    reciprocal = scaled_root(n) // root  # (m,)
    y = round_shift(centered * reciprocal[:, None], 26)
    return clamp16(round_shift(y * gamma.astype(np.int64) + beta.astype(np.int64), 16))


def mean_pool(x: Int16, fraction_bits: int) -> Int32:
    """Return the mean over rows with `fraction_bits` more bits of fraction, halves rounded up.

    x: int16[m, n] -> int32[n]; `floor((sum * 2^(f+1) + m) / 2m)`. |mean| * 2^f <= 2^15 * 2^8.
    One element: one column of x.
    """
    rows = x.shape[0]
    total = x.astype(np.int64).sum(axis=0)  # (n,)
    mean: Int64 = ((total << (fraction_bits + 1)) + rows) // (2 * rows)
    return mean.astype(np.int32)


def l2_normalize(v: Int32) -> Int16:
    """Return v / |v| in Q.15.

    v: int32[n], clamped to [-2^24, 2^24] -> int16[n]; `R = floor(2^46 / max(1, isqrt(sum(v^2))))`, `rsh(v * R, 31)`.
    The sum is at most 2^62 for n <= 2^14; |v| <= isqrt + 1, so v * R <= 2^47.
    One element: the whole of v.
    """
    wide = np.clip(v.astype(np.int64), -L2_INPUT_MAX, L2_INPUT_MAX)
    root = max(1, isqrt(int((wide * wide).sum())))
    return clamp16(round_shift(wide * ((1 << 46) // root), 31))
