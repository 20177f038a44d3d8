"""Every wrong key has a witness, no right one has."""

import numpy as np
import pytest

from pouw.operators import scene
from pouw.operators.elements_scene import TRIANGLE_MASK, refutes_rasterize, triangle_key

NOTHING = scene.NOTHING
COUNT, ROWS, COLUMNS = 12, 4, 5
PLACE = (8, 3, 0)  # sample and cull


def made(seed):
    random = np.random.default_rng(seed)
    screen = random.integers(-60, 140, (10, 4)).astype(np.int32)
    screen[:, 2] = random.integers(0, 2**21, 10)
    screen[:, 3] = np.minimum(random.integers(0, 12, 10), 1) * 1000
    triangles = random.integers(0, 10, (COUNT, 3)).astype(np.int32)
    rows, columns = np.arange(ROWS, dtype=np.int16), np.arange(COLUMNS, dtype=np.int16)
    return screen[triangles], scene.rasterize(screen, triangles, rows, columns, *PLACE)


def is_refuted(corners, claimed, row, column):
    number = claimed & TRIANGLE_MASK
    own = corners[number] if number < COUNT else corners[0]
    return any(
        refutes_rasterize(claimed, own, witness, corners[witness], row, column, *PLACE) for witness in range(COUNT)
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_key_is_refuted_exactly_where_it_is_wrong(seed):
    corners, keys = made(seed)
    seen = set(keys.reshape(-1).tolist())
    assert len(seen) > 1
    for row, column in np.ndindex(ROWS, COLUMNS):
        honest = int(keys[row, column])
        others = {*seen, NOTHING, honest ^ 1, honest ^ (1 << 24), 0, 5}
        assert not is_refuted(corners, honest, row, column)
        for wrong in sorted(others - {honest}):
            assert is_refuted(corners, wrong, row, column), (row, column, honest, wrong)


def test_a_triangle_gives_the_key_that_it_has_alone():
    corners, keys = made(1)
    for row, column in np.ndindex(ROWS, COLUMNS):
        alone = [triangle_key(corners[number], number, row, column, *PLACE) for number in range(COUNT)]
        assert min(alone) == keys[row, column]
