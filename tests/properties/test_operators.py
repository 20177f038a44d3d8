"""Backends equal the definitions on whatever Hypothesis finds, at full range and odd shapes."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pouw.backends.reference import NumpyBackend
from pouw.backends.registry import BackendUnavailable, load_backend
from pouw.operators.rules import RULE_BY_NAME


def backends():
    found = [NumpyBackend()]
    with suppress(BackendUnavailable):
        found.append(load_backend("native"))
    return found


BACKENDS = backends()
SIZES = st.integers(1, 40)


def whole(dtype, shape):
    return arrays(dtype, shape, elements=st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)))


def between(dtype, shape, low, high):
    return arrays(dtype, shape, elements=st.integers(low, high))


@st.composite
def cases(draw):
    m, n, k = draw(SIZES), draw(SIZES), draw(SIZES)
    x, y = draw(whole(np.int16, (m, n))), draw(whole(np.int16, (m, n)))
    factors = draw(between(np.int16, n, 1, 256))
    maximum = draw(between(np.int32, m, 1, 2**31 - 1))
    wide = draw(whole(np.int32, (m, n)))
    row, other = draw(whole(np.int32, n)), draw(whole(np.int32, n))
    scores = draw(whole(np.int32, (2, m, n)))
    table = draw(whole(np.int16, 1024))
    weights = draw(between(np.int16, (2, m, k), 0, 2**15 - 1))
    values = draw(whole(np.int16, (k, 2 * n)))
    queries, keys = draw(whole(np.int16, (m, 2 * n + 1))), draw(whole(np.int16, (k, 2 * n + 1)))
    return {
        "row_maximum": ((x, factors), ()),
        "quantize": ((x, maximum, factors), (draw(st.integers(1, 127)),)),
        "matmul": ((draw(whole(np.int8, (m, k))), draw(whole(np.int8, (n, k)))), (0,)),
        "rescale": ((wide, maximum, row, other), (draw(st.integers(1, 62)), draw(st.integers(1, 2**15 - 1)))),
        "add": ((x, y), ()),
        "layer_norm": ((wide, row, other), ()),
        "attention_scores": ((queries, keys), (2, n, 1, 0, draw(st.integers(1, 40)))),
        "softmax_weights": ((scores, table), ()),
        "attention_mix": ((weights, values), (n, 0)),
        "lookup": ((x, np.resize(table, 16384)), ()),
        "mean_pool": ((x,), (draw(st.integers(0, 8)),)),
        "l2_normalize": ((row,), ()),
    }


@settings(max_examples=60, deadline=None)
@given(cases())
def test_backends_equal_the_definitions(found):
    for name, (tensors, attributes) in found.items():
        rule = RULE_BY_NAME[name]
        expected = rule.compute(tensors, attributes)
        for backend in BACKENDS:
            got = backend.compute(rule, tensors, attributes)
            assert got.dtype == expected.dtype, name
            assert np.array_equal(got, expected), (backend.name, name)


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_operands_that_are_views_are_taken(backend):
    rng = np.random.default_rng(1)
    a = rng.integers(-128, 128, (64, 48), dtype=np.int8).T
    b = rng.integers(-128, 128, (64, 24), dtype=np.int8).T
    x = rng.integers(-(2**15), 2**15, (64, 48), dtype=np.int16).T
    for name, tensors in (("matmul", (a, b)), ("add", (x, x))):
        rule = RULE_BY_NAME[name]
        attributes = (0,) if name == "matmul" else ()
        assert np.array_equal(backend.compute(rule, tensors, attributes), rule.compute(tensors, attributes))
