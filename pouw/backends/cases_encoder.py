"""Operands on which every backend proves the encoder's operators: whole ranges, remainders, the smallest shapes."""

import numpy as np

from pouw.operators.activation import TABLE_SIZE
from pouw.operators.attention import WEIGHT_TABLE_SIZE
from pouw.operators.linear import FACTOR_MAX
from pouw.operators.types import Tensor

Case = tuple[str, tuple[Tensor, ...], tuple[int, ...]]
"""Operator, tensors, attributes."""


def cases() -> tuple[Case, ...]:
    """Return (operator, tensors, attributes) with operands over their whole range; odd shapes leave remainders.

    Saturating int8 instructions gave 94 % wrong products on some machines: only full-range operands show that.
    """
    m, n, k = 19, 48, 1030
    full8 = full_range(np.int8, (m, k), 1)
    weights8 = full_range(np.int8, (n, k), 2)
    full8[:3], weights8[:3] = ((-128,), (127,), (0,)), ((-128,), (127,), (1,))  # the largest sums of either sign
    x = full_range(np.int16, (m, n), 3)
    factors = (full_range(np.int16, (n,), 5).astype(np.int32) % FACTOR_MAX + 1).astype(np.int16)
    maximum = np.abs(full_range(np.int32, (m,), 6).astype(np.int64) % 2**23).astype(np.int32) + 1
    wide = full_range(np.int32, (m, n), 7)
    row = full_range(np.int32, (n,), 8)
    scores = (full_range(np.int32, (3, m, n), 9) >> 12).astype(np.int32)
    powers = np.abs(full_range(np.int16, (WEIGHT_TABLE_SIZE,), 10).astype(np.int32)).clip(0, 2**15 - 1).astype(np.int16)
    table = full_range(np.int16, (TABLE_SIZE,), 11)
    weights = np.abs(full_range(np.int16, (3, m, m), 12).astype(np.int32)).clip(0, 2**15 - 1).astype(np.int16)
    ids = (np.arange(m, dtype=np.int32) * 7) % 40
    return (
        ("embedding", (ids, full_range(np.int16, (40, n), 13)), ()),
        ("embedding", (np.tile(ids, 80), full_range(np.int16, (40, n), 16)), ()),  # large enough for every core
        ("add_positions", (x, full_range(np.int16, (m + 2, n), 14)), ()),
        ("row_maximum", (x, factors), ()),
        ("quantize", (x, maximum, factors), (127,)),
        ("quantize", (x, maximum, factors), (63,)),
        ("matmul", (full8, weights8), (0,)),
        ("matmul", ((full8 >> 1).astype(np.int8), (weights8 >> 1).astype(np.int8)), (1,)),
        ("rescale", (wide, maximum, row, wide[0].copy()), (30, 2**15 - 1)),
        ("rescale", (wide >> 9, maximum, row >> 14, row), (40, 8191)),
        ("add", (x, x[::-1].copy()), ()),
        ("layer_norm", (wide, row >> 12, row), ()),
        ("layer_norm", (wide >> 16, row >> 12, row), ()),
        ("attention_scores", (x, x), (3, 8, 0, 24, 10)),
        ("attention_scores", (np.tile(x, (30, 2)), np.tile(x[:2], 2)), (47, 2, 1, 0, 10)),  # few keys, by rows
        ("softmax_weights", (scores, powers), ()),
        ("attention_mix", (weights, x), (8, 24)),
        ("lookup", (x, table), ()),
        ("mean_pool", (x,), (6,)),
        ("l2_normalize", (row,), ()),
        ("l2_normalize", (row >> 20,), ()),
    )


def edge_cases() -> tuple[Case, ...]:
    """Return cases of one row, one column, one key, and of depths that leave every remainder of a kernel's step."""
    found: list[Case] = []
    for m, n, k in ((1, 1, 1), (4, 9, 1), (1, 17, 3), (2, 1, 5), (9, 49, 130), (17, 16, 64)):
        a, b = full_range(np.int8, (m, k), m), full_range(np.int8, (n, k), n)
        a[0], b[0] = -128, -128
        x = full_range(np.int16, (m, n), k)
        factors = np.full(n, FACTOR_MAX, dtype=np.int16)
        maximum = np.full(m, 2**31 - 1, dtype=np.int32)
        wide, row = full_range(np.int32, (m, n), 1), full_range(np.int32, (n,), 2)
        wide[0] = -(2**31)
        extremes = np.full((m, 2 * n), -(2**15), dtype=np.int16)
        keys = np.full((k, 2 * n), -(2**15), dtype=np.int16)
        powers = np.full(WEIGHT_TABLE_SIZE, 2**15 - 1, dtype=np.int16)
        weights = np.full((2, m, k), 2**15 - 1, dtype=np.int16)
        found += [
            ("matmul", (a, b), (0,)),
            ("row_maximum", (x, factors), ()),
            ("quantize", (x, np.ones(m, dtype=np.int32), factors), (1,)),
            ("quantize", (x, maximum, factors), (127,)),
            ("rescale", (wide, maximum, row, row), (62, 1)),
            ("rescale", (wide, maximum, row, row), (1, 2**15 - 1)),
            ("add", (x, x), ()),
            ("layer_norm", (np.zeros((m, n), dtype=np.int32), row, row), ()),
            ("layer_norm", (wide, row, row), ()),
            ("attention_scores", (extremes, keys), (2, n, 0, 0, 1)),
            ("attention_scores", (extremes, keys), (1, n, n, 0, 40)),
            ("softmax_weights", (full_range(np.int32, (2, m, k), 3), powers), ()),
            ("attention_mix", (weights, keys), (n, 0)),
            ("attention_mix", (np.zeros_like(weights), keys), (n, 0)),
            ("lookup", (x, np.zeros(TABLE_SIZE, dtype=np.int16)), ()),
            ("mean_pool", (x,), (8,)),
            ("l2_normalize", (row,), ()),
            ("l2_normalize", (np.zeros(n, dtype=np.int32),), ()),
        ]
    return tuple(found)


def full_range(dtype: type[np.signedinteger], shape: tuple[int, ...], seed: int) -> Tensor:
    """Return every bit pattern of the dtype, spread by a Weyl sequence; no randomness in protocol code."""
    count = int(np.prod(shape))
    spread = (np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15 + 2 * seed)) >> np.uint64(17)
    values = spread.astype(np.uint32).view(np.int32).astype(dtype).reshape(shape)
    limits = np.iinfo(dtype)
    values.reshape(-1)[:2] = (limits.min, limits.max)[:count]
    return values
