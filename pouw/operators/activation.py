"""Activation functions as tables over [-8, 8) in Q.10."""

import numpy as np

from pouw.operators.arithmetic import Int16

TABLE_SIZE = 16_384  # [-8, 8) in steps of 2^-10


def lookup(x: Int16, table: Int16) -> Int16:
    """Return table[x + 8192] for x in [-8192, 8192), x itself above, 0 below (GELU, SiLU).

    x: int16[m, n] Q.10, table: int16[16384] -> int16[m, n] Q.10. No arithmetic.
    One element: one entry of x and of the table.
    """
    half = TABLE_SIZE // 2
    wide = x.astype(np.int64)
    inside = table[np.clip(wide + half, 0, TABLE_SIZE - 1)].astype(np.int64)
    return np.where(wide < -half, 0, np.where(wide >= half, wide, inside)).astype(np.int16)
