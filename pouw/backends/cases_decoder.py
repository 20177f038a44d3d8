"""Operands on which every backend proves the decoder's operators."""

import numpy as np

from pouw.backends.cases_encoder import Case, full_range
from pouw.operators.attention import WEIGHT_TABLE_SIZE


def cases() -> tuple[Case, ...]:
    """Return whole ranges, ties, and the first steps of a decoding loop (one row in work; no row before it)."""
    x, y = full_range(np.int16, (7, 48), 21), full_range(np.int16, (7, 48), 22)
    wide, row = full_range(np.int32, (7, 48), 23), full_range(np.int32, (48,), 24)
    maximum = np.full(7, 2**23, dtype=np.int32)
    rotations = full_range(np.int16, (20, 12), 25)
    table = np.abs(full_range(np.int16, (WEIGHT_TABLE_SIZE,), 26).astype(np.int32)).clip(0, 2**15 - 1).astype(np.int16)
    table[0] = 2**15 - 1
    weights = np.abs(full_range(np.int16, (4, 7, 19), 27).astype(np.int32)).clip(0, 2**15 - 1).astype(np.int16)
    scores = (full_range(np.int32, (4, 7, 19), 28) >> 10).astype(np.int32)
    keys = full_range(np.int16, (19, 24), 29)
    steps = [np.zeros(count, dtype=np.int32) for count in (7, 19)]
    ties = np.repeat(wide[:, :6] >> 16, 8, axis=1).astype(np.int32)
    seed = np.array([-5], dtype=np.int32)
    keys64 = full_range(np.int64, (7, 16), 32)
    tied = np.repeat(ties[:, ::8].astype(np.int64) << 20, 4, axis=1) + 2**20 - 1 - np.arange(24)
    return (
        ("widen", (x,), (9,)),
        ("rescale_wide", (wide, maximum, row, row[::-1].copy()), (40,)),
        ("rescale_wide", (wide >> 9, maximum, row >> 14, row), (1,)),
        ("accumulate", (wide, wide[::-1].copy()), ()),
        ("rms_norm", (wide, row), (1 << 40, 16)),
        ("rms_norm", (wide >> 24, row >> 12), (0, 1)),
        ("rms_norm", (np.zeros_like(wide), row), (0, 16)),
        ("rope", (x, steps[0], rotations), (3, 12, 5)),
        ("rope", (x, steps[1], rotations), (4, 12, 0)),
        ("transpose_columns", (x,), (5, 20)),
        ("transpose_columns", (full_range(np.int16, (71, 150), 33),), (3, 140)),
        ("transpose_columns", (full_range(np.int16, (300, 260), 34),), (1, 256)),  # large enough for every core
        ("causal_scores", (x, keys), (4, 2, 12, 10)),
        ("causal_scores", (x, keys[:7].copy()), (4, 2, 12, 1)),
        ("causal_softmax", (scores, table), ()),
        ("causal_softmax", (scores[:, :, :7].copy(), table), ()),
        ("grouped_mix", (weights, full_range(np.int16, (24, 19), 30)), (2,)),
        ("grouped_mix", (np.zeros_like(weights), full_range(np.int16, (4, 19), 31)), (4,)),
        ("gated_product", (x, y), (10,)),
        ("gated_product", (x, y), (1,)),
        ("last_row", (wide,), ()),
        ("argmax", (wide,), ()),
        ("argmax", (ties,), ()),
        ("sample", (wide >> 18, seed, steps[1], table), (1 << 16, 40, 60_000)),
        ("sample", (ties, seed, steps[0], table), (1 << 14, 48, 1 << 16)),
        ("sample", (wide, seed, steps[0], table), (1 << 24, 1, 1)),
        ("candidates", (wide,), (1 << 16, 12, 12)),
        ("candidates", (wide,), (1 << 24, 13, 9)),
        ("candidates", (ties,), (1 << 12, 48, 20)),
        ("draw", (keys64, seed, steps[1], table), (16, 60_000)),
        ("draw", (keys64 >> 40, seed, steps[0], table), (3, 1 << 16)),
        ("draw", (tied, seed, steps[1], table), (20, 50_000)),
    )
