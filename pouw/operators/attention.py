"""Attention in the log2 domain: scores, unnormalised weights, weighted mean of the values."""

import numpy as np

from pouw.operators.arithmetic import INT32_MAX, Int16, Int32, Int64, clamp16, round_shift

WEIGHT_TABLE_SIZE = 1024


def heads_of(x: Int16, heads: int, head_size: int, offset: int) -> Int64:
    """Return columns offset .. of x[n, *] as int64[heads, n, head_size]."""
    part = x[:, offset : offset + heads * head_size].astype(np.int64)
    return part.reshape(x.shape[0], heads, head_size).transpose(1, 0, 2)


def attention_scores(
    queries: Int16, keys: Int16, heads: int, head_size: int, query_offset: int, key_offset: int, shift: int
) -> Int32:
    """Return rsh(query . key, shift) for each head: log2-domain scores in Q.10.

    queries: int16[m, *], keys: int16[n, *] -> int32[heads, m, n], clamped to +-(2^31 - 1).
    The factor log2(e) / sqrt(head_size) stands in the multipliers that made the queries. |sum| <= 2^30 * head_size.
    One element: head_size entries of one row of each operand.
    """
    q = heads_of(queries, heads, head_size, query_offset)  # (heads, m, head_size)
    k = heads_of(keys, heads, head_size, key_offset)  # (heads, n, head_size)
    dots = q @ k.transpose(0, 2, 1)  # (heads, m, head_size) @ (heads, head_size, n) -> (heads, m, n)
    return np.clip(round_shift(dots, shift), -INT32_MAX, INT32_MAX).astype(np.int32)


def softmax_weights(scores: Int32, table: Int16) -> Int16:
    """Return 2^(score - row maximum) in Q.15, not yet divided by the row's sum.

    scores: int32[h, m, n] Q.10, table: int16[1024] with table[i] = round(2^15 * 2^(-i / 1024)) at most 2^15 - 1
    -> int16[h, m, n]; `d = max - score`, `table[d & 1023] >> min(d >> 10, 31)`. d < 2^32.
    One element: one row of scores.
    """
    wide = scores.astype(np.int64)
    below = wide.max(axis=2, keepdims=True) - wide  # (h, m, n), >= 0
    weights: Int64 = table[below & 1023].astype(np.int64) >> np.minimum(below >> 10, 31)
    return weights.astype(np.int16)


def attention_mix(weights: Int16, values: Int16, head_size: int, value_offset: int) -> Int16:
    """Return the mean of the values under the weights, heads side by side.

    weights: int16[h, m, n], values: int16[n, *] -> int16[m, h * head_size];
    `rsh(sum(weight * value) * floor(2^40 / max(1, sum(weight))), 40)`, clamped to int16.
    Weights are >= 0, so |sum(weight * value)| <= sum(weight) * 2^15 and the product is at most 2^55.
    One element: one row of weights, one column of values.
    """
    heads, m, _ = weights.shape
    e = weights.astype(np.int64)
    v = heads_of(values, heads, head_size, value_offset)  # (h, n, head_size)
    mixed = e @ v  # (h, m, n) @ (h, n, head_size) -> (h, m, head_size)
    reciprocal = (1 << 40) // np.maximum(e.sum(axis=2), 1)  # (h, m)
    y = clamp16(round_shift(mixed * reciprocal[:, :, None], 40))
    return np.ascontiguousarray(y.transpose(1, 0, 2)).reshape(m, heads * head_size)
