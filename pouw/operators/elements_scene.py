"""How a pixel's key is disputed: the claimed triangle does not give it, or a witness gives a lower one.

A key depends on every triangle, which no leaf holds; a refutation reads two triangles, three vertices each (120 bytes).
The other operators of a scene read three vertices that a triangle names, which the court's windows do not state yet.
"""

import numpy as np

from pouw.operators import scene
from pouw.operators.arithmetic import Int32

TRIANGLE_MASK = (1 << scene.TRIANGLE_BITS) - 1


def triangle_key(corners: Int32, triangle: int, row: int, column: int, sample_x: int, sample_y: int, cull: int) -> int:
    """Return the key that one triangle gives one pixel, 2^63 - 1 where it does not cover it.

    corners: int32[3, 4], the triangle's vertices of `project`, in its order; the others as for `rasterize`.

    Raises:
        TensorOutOfRange.
    """
    place = np.array([row], dtype=np.int16), np.array([column], dtype=np.int16)
    keys = scene.rasterize(corners, np.array([[0, 1, 2]], dtype=np.int32), *place, sample_x, sample_y, cull)
    key = int(keys[0, 0])
    return key if key == scene.NOTHING else key | triangle


def refutes_rasterize(
    claimed: int,
    corners: Int32,
    witness: int,
    witness_corners: Int32,
    row: int,
    column: int,
    sample_x: int,
    sample_y: int,
    cull: int,
) -> bool:
    """Return whether triangle `witness` shows that a pixel's key is not `claimed`.

    corners: the vertices of the triangle that the claimed key names, not read where it names none (a number that is
    no triangle is a fault by itself); witness_corners: those of the witness. Whoever claims wrongly is refuted by
    some witness, the claimed triangle itself included; an honest key by none.

    Raises:
        TensorOutOfRange.
    """
    place = row, column, sample_x, sample_y, cull
    if claimed != scene.NOTHING and triangle_key(corners, claimed & TRIANGLE_MASK, *place) != claimed:
        return True
    return triangle_key(witness_corners, witness, *place) < claimed
