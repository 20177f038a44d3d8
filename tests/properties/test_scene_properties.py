"""Backends equal the scene's definitions on whatever Hypothesis finds, and refuse what they refuse."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from chain.errors import HyperdustError
from pouw.backends.reference import NumpyBackend
from pouw.backends.registry import BackendUnavailable, load_backend
from pouw.operators import scene
from pouw.operators.rules import RULE_BY_NAME

NOTHING = 2**63 - 1


def backends():
    found = [NumpyBackend()]
    with suppress(BackendUnavailable):
        found.append(load_backend("native"))
    return found


BACKENDS = backends()
SIZES = st.integers(1, 24)


def whole(dtype, shape):
    return arrays(dtype, shape, elements=st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)))


def between(dtype, shape, low, high):
    return arrays(dtype, shape, elements=st.integers(low, high))


def ascending(size):
    return st.lists(st.integers(0, 4095), min_size=size, max_size=size, unique=True).map(
        lambda found: np.array(sorted(found), dtype=np.int16)
    )


@st.composite
def views(draw):
    view = draw(whole(np.int32, 7))
    view[2] = draw(st.integers(0, 2**28))
    view[5:] = draw(st.integers(1, 4096)), draw(st.integers(1, 4096))
    return view


@st.composite
def screens(draw, count):
    reach = draw(st.sampled_from([64, 600, 70_000, 2**19]))
    screen = np.zeros((count, 4), dtype=np.int32)
    screen[:, :2] = draw(between(np.int32, (count, 2), -reach, reach))
    screen[:, 2] = draw(between(np.int32, count, 0, 2**21 - 1))
    screen[:, 3] = draw(between(np.int32, count, 0, 2**26))
    return screen


@st.composite
def cases(draw):
    vertices, count, height, width = draw(SIZES), draw(SIZES), draw(SIZES), draw(SIZES)
    screen, view = draw(screens(vertices)), draw(views())
    triangles = draw(between(np.int32, (count, 3), 0, vertices - 1))
    if draw(st.booleans()):
        rows, columns = (np.arange(size, dtype=np.int16) for size in (height, width))
    else:
        rows, columns = draw(ascending(height)), draw(ascending(width))
    sample = (draw(st.integers(0, 15)), draw(st.integers(0, 15)))
    drawn = scene.rasterize(screen, triangles, rows, columns, *sample, 0)
    keys = draw(between(np.int64, (height, width), 0, count - 1))
    keys = np.where(draw(arrays(np.bool_, keys.shape)), NOTHING, keys)
    keys = drawn if draw(st.booleans()) else keys
    weights = draw(between(np.int32, (height, width, 3), 0, 2**18))
    texels = draw(whole(np.uint8, (draw(st.integers(12, 30)), 3)))
    materials = draw(between(np.int32, (3, 6), 0, 256))
    materials[:, :3] = [[0, 3, 4], [draw(st.integers(0, 11)), 1, 1], [2, 2, 5]]
    of = draw(between(np.int32, count, 0, 2))
    normals = draw(between(np.int32, (height, width, 3), -(2**15), 2**15))
    light = draw(between(np.int32, 3, -(2**15), 2**15))
    levels = (draw(st.integers(0, 1024)), draw(st.integers(0, 1024)))
    colours, sky = draw(whole(np.uint8, (height, width, 3))), draw(whole(np.uint8, (2, 3)))
    matrix = draw(between(np.int32, (4, 4), -(2**29), 2**29))
    points = draw(between(np.int32, (vertices, 3), -(2**28), 2**28))
    values = draw(whole(np.int32, (vertices, draw(st.integers(1, 4)))))
    places = draw(whole(np.int32, (height, width, 2)))
    return {
        "transform_vertices": ((matrix, points), ()),
        "project": ((draw(whole(np.int32, (vertices, 4))), view), ()),
        "rasterize": ((screen, triangles, rows, columns), (*sample, draw(st.integers(0, 1)))),
        "surface_weights": ((keys, screen, triangles, rows, columns), sample),
        "interpolate": ((keys, weights, triangles, values), ()),
        "sample_texture": ((keys, places, of, materials, texels), (draw(st.integers(0, 1)),)),
        "shade": ((keys, colours, normals, light, sky, rows, view), levels),
    }


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@settings(max_examples=60, deadline=None)
@given(data=cases())
def test_every_kernel_equals_its_definition(backend, data):
    for name, (tensors, attributes) in data.items():
        rule = RULE_BY_NAME[name]
        expected = rule.compute(tensors, attributes)
        got = backend.compute(rule, tensors, attributes)
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape), name
        assert np.array_equal(got, expected), name


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@settings(max_examples=60, deadline=None)
@given(data=cases(), junk=st.data())
def test_tensors_of_junk_are_refused_alike(backend, data, junk):
    """One tensor of each operator is replaced by whatever fits its dtype: the same value, or the same error."""
    for name, (tensors, attributes) in data.items():
        place = junk.draw(st.integers(0, len(tensors) - 1))
        mixed = list(tensors)
        mixed[place] = junk.draw(whole(tensors[place].dtype, tensors[place].shape))
        rule = RULE_BY_NAME[name]
        try:
            expected = rule.compute(mixed, attributes)
        except HyperdustError as error:
            with pytest.raises(type(error)):
                backend.compute(rule, tuple(mixed), attributes)
        else:
            assert np.array_equal(backend.compute(rule, tuple(mixed), attributes), expected), name


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_order_of_triangles_never_matters(data):
    vertices, count = data.draw(SIZES), data.draw(SIZES)
    screen = data.draw(screens(vertices))
    triangles = data.draw(between(np.int32, (count, 3), 0, vertices - 1))
    order = np.array(data.draw(st.permutations(range(count))))
    rows = np.arange(12, dtype=np.int16)
    keys = scene.rasterize(screen, triangles, rows, rows, 8, 8, 0)
    turned = scene.rasterize(screen, triangles[order], rows, rows, 8, 8, 0)
    assert (keys >> 24 == turned >> 24).all()


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_two_triangles_that_share_a_side_cover_no_pixel_twice(data):
    reach = data.draw(st.sampled_from([40, 200, 2**19]))
    a, b, c, d = data.draw(between(np.int32, (4, 2), -reach, reach))
    dx, dy = (b - a).astype(np.int64)
    sides = [int(dx * (int(p[1]) - int(a[1])) - dy * (int(p[0]) - int(a[0]))) for p in (c, d)]
    if sides[0] * sides[1] >= 0:
        return  # both on one side: they overlap by right
    screen = np.array([[*point, 0, 1 << 20] for point in (a, b, c, d)], dtype=np.int32)
    rows = np.arange(12, dtype=np.int16)
    sample = data.draw(st.integers(0, 15)), data.draw(st.integers(0, 15))
    first, second = (
        scene.rasterize(screen, np.array([order], dtype=np.int32), rows, rows, *sample, 0) != NOTHING
        for order in ([0, 1, 2], [0, 1, 3])
    )
    assert not (first & second).any()
