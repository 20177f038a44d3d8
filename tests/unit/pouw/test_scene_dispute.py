"""Every wrong key has a witness, no right one has."""

import numpy as np
import pytest

from pouw.operators import scene
from pouw.operators.elements import WITNESS_RULES, refutes_element, witness_bytes, witness_windows
from pouw.operators.elements_scene import TRIANGLE_MASK, triangle_key
from pouw.operators.errors import TensorOutOfRange
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import TensorType
from pouw.trace import dtype_by_name

NOTHING = scene.NOTHING
COUNT, ROWS, COLUMNS = 12, 4, 5
PLACE = (8, 3, 0)  # sample and cull
RULE = RULE_BY_NAME["rasterize"]


def made(seed):
    random = np.random.default_rng(seed)
    screen = random.integers(-60, 140, (10, 4)).astype(np.int32)
    screen[:, 2] = random.integers(0, 2**21, 10)
    screen[:, 3] = np.minimum(random.integers(0, 12, 10), 1) * 1000
    triangles = random.integers(0, 10, (COUNT, 3)).astype(np.int32)
    rows, columns = np.arange(ROWS, dtype=np.int16), np.arange(COLUMNS, dtype=np.int16)
    return (screen, triangles, rows, columns), scene.rasterize(screen, triangles, rows, columns, *PLACE)


def types_of(tensors):
    return [TensorType(dtype_by_name(tensor.dtype.name), tensor.shape) for tensor in tensors]


def refutes(tensors, index, claimed, witness):
    def read(number, window):
        return tensors[number].reshape(-1)[window.indices()]

    return refutes_element(RULE, types_of(tensors), PLACE, index, claimed, witness, read)


@pytest.mark.parametrize("seed", range(5))
def test_a_key_is_refuted_exactly_where_it_is_wrong(seed):
    tensors, keys = made(seed)
    seen = set(keys.reshape(-1).tolist())
    assert len(seen) > 1
    for index, honest in enumerate(keys.reshape(-1).tolist()):
        others = {*seen, NOTHING, honest ^ 1, honest ^ (1 << 24), 0, 5, -1, COUNT, TRIANGLE_MASK}
        assert not any(refutes(tensors, index, honest, witness) for witness in range(-1, COUNT + 1))
        for wrong in sorted(others - {honest}):
            witness = WITNESS_RULES["rasterize"].choose(honest, wrong)
            assert refutes(tensors, index, wrong, witness), (index, honest, wrong)


def test_a_refutation_reads_two_triangles():
    tensors, keys = made(1)
    size = witness_bytes(RULE, types_of(tensors), PLACE)
    assert size == 2 * (3 * 4 + 3 * 16) + 4
    place = int(np.flatnonzero(keys.reshape(-1) != NOTHING)[0])
    honest = int(keys.reshape(-1)[place])
    windows = witness_windows(RULE, tensors, PLACE, place, honest, (honest & TRIANGLE_MASK) ^ 1)
    assert sum(window.size * tensors[number].dtype.itemsize for number, window in windows) == size


def test_a_triangle_of_vertices_that_are_none_is_named():
    tensors, keys = made(1)
    tensors[1][:] = 10
    with pytest.raises(TensorOutOfRange):
        refutes(tensors, 0, int(keys[0, 0]) & TRIANGLE_MASK if keys[0, 0] != NOTHING else 0, 1)


def test_a_triangle_gives_the_key_that_it_has_alone():
    (screen, triangles, rows, columns), keys = made(1)
    for row, column in np.ndindex(ROWS, COLUMNS):
        place = rows[row : row + 1], columns[column : column + 1]
        alone = [triangle_key(screen[triangles[number]], number, *place, PLACE) for number in range(COUNT)]
        assert min(alone) == keys[row, column]
