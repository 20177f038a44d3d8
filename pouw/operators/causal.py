"""Causal attention with grouped heads: what a query may see follows from shapes.

With m queries and n keys, the query of row i is at position n - m + i and sees the keys 0 .. n - m + i. Keys and values
are the rows of all steps so far; where a backend keeps them is its own affair.
"""

import numpy as np

from pouw.operators.arithmetic import INT32_MAX, Int16, Int32, Int64, clamp16, round_shift
from pouw.operators.errors import TensorOutOfRange


def visible(m: int, n: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Return bool[m, n]: whether query i sees key j.

    Raises:
        TensorOutOfRange: fewer keys than queries.
    """
    check_visible(m, n)
    return np.tri(m, n, n - m, dtype=np.bool_)


def check_visible(m: int, n: int) -> None:
    """Refuse m queries with n keys.

    Raises:
        TensorOutOfRange: fewer keys than queries.
    """
    if m > n:
        raise TensorOutOfRange("rows so far", n, f"at least {m}")


def causal_scores(queries: Int16, keys: Int16, heads: int, kv_heads: int, head_size: int, shift: int) -> Int32:
    """Return rsh(query . key, shift) where the query sees the key, else 0: log2-domain scores in Q.10.

    queries: int16[m, heads * head_size], keys: int16[n, kv_heads * head_size] -> int32[heads, m, n], clamped to
    +-(2^31 - 1). Query head h reads key head floor(h * kv_heads / heads). |sum| <= 2^30 * head_size <= 2^43.
    One element: head_size entries of one row of each operand.

    Raises:
        TensorOutOfRange: fewer keys than queries.
    """
    m, n = queries.shape[0], keys.shape[0]
    mask = visible(m, n)
    q = queries.astype(np.int64).reshape(m, heads, head_size).transpose(1, 0, 2)  # (heads, m, head_size)
    k = keys.astype(np.int64).reshape(n, kv_heads, head_size).transpose(1, 2, 0)  # (kv_heads, head_size, n)
    dots = q @ k[np.arange(heads) * kv_heads // heads]  # (heads, m, n)
    scores = np.clip(round_shift(dots, shift), -INT32_MAX, INT32_MAX)
    return np.where(mask, scores, 0).astype(np.int32)


def causal_softmax(scores: Int32, table: Int16) -> Int16:
    """Return 2^(score - maximum of the seen) in Q.15, not yet divided by the sum; 0 for what is not seen.

    scores: int32[h, m, n] Q.10, table: int16[1024] with table[i] = round(2^15 * 2^(-i / 1024)) at most 2^15 - 1
    -> int16[h, m, n]; `d = max - score`, `table[d & 1023] >> min(d >> 10, 31)`. d < 2^32.
    One element: one row of scores.

    Raises:
        TensorOutOfRange: fewer columns than rows.
    """
    mask = visible(scores.shape[1], scores.shape[2])
    wide = scores.astype(np.int64)
    most = np.where(mask, wide, -(2**31)).max(axis=2, keepdims=True)  # (h, m, 1)
    below = np.where(mask, most - wide, 0)  # (h, m, n), >= 0
    weights: Int64 = table[below & 1023].astype(np.int64) >> np.minimum(below >> 10, 31)
    return np.where(mask, weights, 0).astype(np.int16)


def grouped_mix(weights: Int16, values_transposed: Int16, kv_heads: int) -> Int16:
    """Return the mean of the values under the weights, heads side by side.

    weights: int16[heads, m, n] >= 0, values_transposed: int16[kv_heads * head_size, n] -> int16[m, heads * head_size].
    Head h reads value head floor(h * kv_heads / heads);
    `rsh(sum(weight * value) * floor(2^40 / max(1, sum(weight))), 40)`, clamped to int16.
    Weights are >= 0, so |sum(weight * value)| <= sum(weight) * 2^15 and the product is at most 2^55.
    One element: one row of weights, one row of the transposed values: 4n bytes.
    """
    heads, m, n = weights.shape
    head_size = values_transposed.shape[0] // kv_heads
    e = weights.astype(np.int64)
    v = values_transposed.astype(np.int64).reshape(kv_heads, head_size, n).transpose(0, 2, 1)  # (kv, n, head_size)
    mixed = e @ v[np.arange(heads) * kv_heads // heads]  # (heads, m, n) @ (heads, n, head_size)
    reciprocal = (1 << 40) // np.maximum(e.sum(axis=2), 1)  # (heads, m)
    y = clamp16(round_shift(mixed * reciprocal[:, :, None], 40))
    return np.ascontiguousarray(y.transpose(1, 0, 2)).reshape(m, heads * head_size)
