"""The decoder's kernels equal their definitions, and whole generations have one trace on both backends."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hyperdust.graph import load_graph
from pouw.backends.reference import NumpyBackend
from pouw.backends.registry import BackendUnavailable, load_backend
from pouw.execution import run, trace_root
from pouw.operators.rules import RULE_BY_NAME

NATIVE = None
with suppress(BackendUnavailable):
    NATIVE = load_backend("native")
pytestmark = pytest.mark.skipif(NATIVE is None, reason="the native core is not built")
SIZES = st.integers(1, 9)


def whole(dtype, shape):
    return arrays(dtype, shape, elements=st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)))


@st.composite
def cases(draw):
    m, earlier, n, groups, share, head_size = (draw(SIZES) for _ in range(6))
    so_far, heads = m + earlier - 1, groups * share
    wide, other = draw(whole(np.int32, (m, n))), draw(whole(np.int32, (m, n)))
    row = draw(whole(np.int32, n))
    x, y = draw(whole(np.int16, (m, n))), draw(whole(np.int16, (m, n)))
    table, steps = draw(whole(np.int16, 1024)), np.zeros(so_far, dtype=np.int32)
    shift = st.integers(1, 40)
    sampling = (draw(st.integers(1, 2**24)), draw(st.integers(1, n)), draw(st.integers(1, 2**16)))
    segment = draw(st.integers(1, n))
    cut = (sampling[0], segment, draw(st.integers(1, n % segment or segment)))
    seed, keys = draw(whole(np.int32, 1)), draw(whole(np.int64, (m, n)))
    return {
        "widen": ((x,), (draw(st.integers(0, 9)),)),
        "rescale_wide": ((wide, draw(whole(np.int32, m)), row, row[::-1].copy()), (draw(st.integers(1, 62)),)),
        "accumulate": ((wide, other), ()),
        "rms_norm": ((wide, row), (draw(st.integers(0, 2**60)), draw(shift))),
        "rope": (
            (draw(whole(np.int16, (m, 2 * n + 1))), steps, draw(whole(np.int16, (so_far + 1, 2 * n)))),
            (1, 2 * n, draw(st.integers(0, 1))),
        ),
        "causal_scores": (
            (draw(whole(np.int16, (m, heads * head_size))), draw(whole(np.int16, (so_far, groups * head_size)))),
            (heads, groups, head_size, draw(shift)),
        ),
        "causal_softmax": ((draw(whole(np.int32, (2, m, so_far))), table), ()),
        "grouped_mix": (
            (draw(whole(np.int16, (heads, m, so_far))), draw(whole(np.int16, (groups * head_size, so_far)))),
            (groups,),
        ),
        "gated_product": ((x, y), (draw(st.integers(1, 30)),)),
        "argmax": ((wide,), ()),
        "sample": ((wide, seed, steps, table), sampling),
        "candidates": ((wide,), cut),
        "draw": ((keys, seed, steps, table), sampling[1:]),
    }


@settings(max_examples=60, deadline=None)
@given(cases())
def test_kernels_equal_the_definitions(found):
    for name, (tensors, attributes) in found.items():
        rule = RULE_BY_NAME[name]
        expected = rule.compute(tensors, attributes)
        got = NATIVE.compute(rule, tensors, attributes)
        assert got.dtype == expected.dtype, name
        assert np.array_equal(got, expected), name


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(0, 1023), min_size=1, max_size=96),
    st.integers(1, 24),
    st.integers(-(2**31), 2**31 - 1),
)
def test_generations_have_one_trace(prompt, limit, seed):
    loaded = load_graph("llama-tiny")
    inputs = {"ids": np.array(prompt, dtype=np.int32), "seed": np.array([seed], dtype=np.int32)}
    symbols = {"S": len(prompt), "T": limit}
    found = [run(loaded.graph, loaded.constants, inputs, symbols, backend) for backend in (NumpyBackend(), NATIVE)]
    assert trace_root(found[0]) == trace_root(found[1])
    assert found[0].outputs["token"].tolist() == found[1].outputs["token"].tolist()
