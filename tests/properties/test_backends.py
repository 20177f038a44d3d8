"""Every backend here equals the definitions on whole subgraphs and where sums leave the narrow kernels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pouw.backends import cases_subgraph
from pouw.backends.registry import MAKERS, BackendUnavailable, load_backend, run_definitions
from pouw.operators.errors import TensorOutOfRange
from pouw.operators.rules import RULE_BY_NAME


def serving():
    found = []
    for name, _ in MAKERS:
        try:
            found.append(load_backend(name))
        except BackendUnavailable:
            continue
    return found


BACKENDS = serving()
SUBGRAPH, CONSTANTS = cases_subgraph.subgraph()
INT16 = st.integers(-(2**15), 2**15 - 1)
EXTREME16 = st.sampled_from((-(2**15), -(2**15) + 1, -1, 0, 1, 2**15 - 1))


def compare(name, tensors, attributes):
    rule = RULE_BY_NAME[name]
    expected = rule.compute(tensors, attributes)
    for backend in BACKENDS:
        got = backend.compute(rule, tensors, attributes)
        assert got.dtype == expected.dtype, (backend.name, name)
        assert np.array_equal(got, expected), (backend.name, name)


@pytest.mark.skipif(not any(hasattr(backend, "run_subgraph") for backend in BACKENDS), reason="no backend fuses")
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whole_subgraphs(data):
    shape = (data.draw(st.integers(1, 40)), cases_subgraph.WIDTH)
    x = data.draw(arrays(np.int16, shape, elements=data.draw(st.sampled_from((INT16, EXTREME16)))))
    expected = run_definitions(SUBGRAPH, (x,), CONSTANTS)
    for backend in BACKENDS:
        if not hasattr(backend, "run_subgraph"):
            continue
        found = backend.run_subgraph(SUBGRAPH, (x,), CONSTANTS)
        for output, got in zip(SUBGRAPH.outputs, found, strict=True):
            assert np.array_equal(got, expected[output.operator]), (backend.name, output.port.name)


@pytest.mark.skipif(not any(hasattr(backend, "run_subgraph") for backend in BACKENDS), reason="no backend fuses")
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_columns_by_themselves(data):
    subgraph, constants = cases_subgraph.taps()
    elements = data.draw(st.sampled_from((INT16, EXTREME16)))
    x = data.draw(arrays(np.int16, (11, 5), elements=elements))
    (weights,) = (root for root, array in constants.items() if array.dtype == np.int16)
    constants = constants | {weights: data.draw(arrays(np.int16, (1, 15), elements=elements))}
    expected = run_definitions(subgraph, (x,), constants)
    for backend in BACKENDS:
        if hasattr(backend, "run_subgraph"):
            found = backend.run_subgraph(subgraph, (x,), constants)
            for output, got in zip(subgraph.outputs, found, strict=True):
                assert np.array_equal(got, expected[output.operator]), (backend.name, output.port.name)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_attention_on_both_sides_of_what_int32_holds(data):
    """Operands whose bound is just below, at and above 2^31 take different kernels."""
    m, n, size = (data.draw(st.integers(1, high)) for high in (20, 40, 40))
    heads = data.draw(st.integers(1, 3))
    most = data.draw(st.sampled_from((1, 181, 8191, 8192, 11_585, 32_767, 32_768)))
    entries = st.sampled_from((-most, -most + 1, 0, most - 1))
    rows = arrays(np.int16, (n, heads * size), elements=entries)
    queries, keys = data.draw(arrays(np.int16, (m, heads * size), elements=entries)), data.draw(rows)
    compare("attention_scores", (queries, keys), (heads, size, 0, 0, data.draw(st.integers(1, 40))))
    heaviest = data.draw(st.sampled_from((0, 1, 255, 256, 32_767)))
    weights = data.draw(arrays(np.int16, (heads, m, n), elements=st.sampled_from((0, heaviest))))
    compare("attention_mix", (weights, data.draw(rows)), (size, 0))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_products_of_extremes(data):
    m, n, k = (data.draw(st.integers(1, high)) for high in (20, 60, 300))
    entries = st.sampled_from((-128, -127, 0, 1, 127))
    a, b = (data.draw(arrays(np.int8, (rows, k), elements=entries, fill=entries)) for rows in (m, n))
    compare("matmul", (a, b), (0,))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_quantising_where_the_reciprocal_leaves_32_bits(data):
    q_max = data.draw(st.sampled_from((1, 63, 64, 127)))
    edge = q_max // 2 + 1
    m, n = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 40))
    near = st.one_of(st.integers(max(1, edge - 2), edge + 2), st.sampled_from((1, 2**23, 2**31 - 1)))
    x = data.draw(arrays(np.int16, (m, n), elements=EXTREME16))
    factors = data.draw(arrays(np.int16, n, elements=st.sampled_from((1, 255, 256))))
    compare("quantize", (x, data.draw(arrays(np.int32, m, elements=near)), factors), (q_max,))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_layer_norm_at_its_clamp(data):
    m, n = data.draw(st.integers(1, 6)), data.draw(st.sampled_from((1, 2, 17, 384, 1024)))
    entries = st.sampled_from((-(2**31), -(2**16) - 1, -(2**16), -1, 0, 1, 2**16, 2**31 - 1))
    v = data.draw(arrays(np.int32, (m, n), elements=entries, fill=entries))
    limits = st.sampled_from((-(2**31), 0, 4096, 2**31 - 1))
    gamma, beta = (data.draw(arrays(np.int32, n, elements=limits, fill=limits)) for _ in range(2))
    compare("layer_norm", (v, gamma, beta), ())


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_lookup_at_the_ends_of_the_table(data):
    shape = (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 40)))
    ends = st.sampled_from((-(2**15), -8193, -8192, -8191, 0, 8190, 8191, 8192, 2**15 - 1))
    table = (np.arange(16_384, dtype=np.int64) * 40_503 % 65_536 - 32_768).astype(np.int16)
    compare("lookup", (data.draw(arrays(np.int16, shape, elements=ends)), table), ())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_columns_as_rows_at_every_remainder_of_a_square(data):
    m, n = (data.draw(st.integers(1, 150)) for _ in range(2))
    offset = data.draw(st.integers(0, n - 1))
    count = data.draw(st.integers(1, n - offset))
    x = (np.arange(m * n, dtype=np.int64) * 40_503 % 65_536 - 32_768).astype(np.int16).reshape(m, n)
    compare("transpose_columns", (x,), (offset, count))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_few_keys(data):
    m, n, heads, size = (data.draw(st.integers(1, high)) for high in (50, 5, 12, 20))
    offsets = [data.draw(st.integers(0, 3)) for _ in range(2)]
    entries = st.one_of(INT16, EXTREME16)
    queries, keys = (
        data.draw(arrays(np.int16, (rows, heads * size + 4), elements=entries, fill=entries)) for rows in (m, n)
    )
    compare("attention_scores", (queries, keys), (heads, size, *offsets, data.draw(st.integers(1, 40))))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_rows_by_number(data):
    rows, n = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 40))
    ids = data.draw(arrays(np.int32, st.integers(1, 60), elements=st.integers(0, rows - 1)))
    table = np.arange(rows * n, dtype=np.int16).reshape(rows, n)
    compare("embedding", (ids, table), ())


@pytest.mark.parametrize("wrong", [-1, 7, 2**31 - 1, -(2**31)])
def test_a_row_that_no_table_has_is_refused_by_name(wrong):
    ids, table = np.array([0, wrong, 3], dtype=np.int32), np.zeros((7, 4), dtype=np.int16)
    for backend in BACKENDS:
        with pytest.raises(TensorOutOfRange):
            backend.compute(RULE_BY_NAME["embedding"], (ids, table), ())
