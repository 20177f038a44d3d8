"""Rows of tables: tokens and positions."""

import numpy as np

from pouw.operators.arithmetic import Int16, Int32, check_values
from pouw.operators.errors import TensorOutOfRange


def embedding(ids: Int32, table: Int16) -> Int16:
    """Return the table's row for each id.

    ids: int32[m] in [0, rows), table: int16[rows, n] -> int16[m, n]. One element: one id, one entry of the table.

    Raises:
        TensorOutOfRange: an id that is no row of the table.
    """
    check_values("token id", ids, 0, table.shape[0] - 1)
    return np.ascontiguousarray(table[ids.astype(np.int64)])


def add_positions(x: Int16, table: Int16) -> Int32:
    """Return x[i] + table[i]. x: int16[m, n], table: int16[rows, n], m <= rows -> int32[m, n].

    One element: one entry of each.

    Raises:
        TensorOutOfRange: more rows than positions.
    """
    check_positions(x.shape[0], table.shape[0])
    return x.astype(np.int32) + table[: x.shape[0]].astype(np.int32)


def check_positions(m: int, rows: int) -> None:
    """Refuse m rows with so many positions.

    Raises:
        TensorOutOfRange: more rows than positions.
    """
    if m > rows:
        raise TensorOutOfRange("rows", m, f"at most {rows}")
