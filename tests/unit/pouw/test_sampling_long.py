"""Sampling from rows that no proof holds: `candidates` and `draw` are `sample`, segment by segment."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pouw.backends.registry import BackendUnavailable, load_backend
from pouw.compiler.llama_options import SizeOutOfRange
from pouw.compiler.sampling import CANDIDATES_MAX, SAMPLE_MAX, SEGMENT_MAX, choose_segment
from pouw.compiler.tables import power_table
from pouw.operators import sampling
from pouw.operators.elements import (
    LeafTooLarge,
    check_leaf_bytes,
    compute_element,
    leaf_bytes,
    open_inputs,
)
from pouw.operators.errors import AttributeOutOfRange, WrongDtype, WrongShape
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import TensorType
from pouw.trace import INT16, INT32, INT64, dtype_by_name

SAMPLE, CANDIDATES, DRAW = (RULE_BY_NAME[name] for name in ("sample", "candidates", "draw"))
TABLE = power_table()
SEED = np.array([-9], dtype=np.int32)
ENTRIES = {
    "anything": (-(2**31), 2**31 - 1),
    "near": (-3000, 3000),
    "ties": (0, 2),
    "one value": (7, 7),
    "the top": (2**31 - 3, 2**31 - 1),
}


def backends():
    for name in ("numpy", "native", "torch"):
        try:
            yield load_backend(name)
        except BackendUnavailable:
            continue


BACKENDS = tuple(backends())


def in_two(backend, logits, seed, so_far, table, attributes, segment):
    temperature, top_k, top_p = attributes
    keys = backend.compute(CANDIDATES, (logits,), (temperature, segment, top_k))
    return backend.compute(DRAW, (keys, seed, so_far, table), (top_k, top_p))


@st.composite
def rows(draw):
    """Rows, attributes of `sample`, and a segment that holds top_k entries everywhere."""
    m, n = draw(st.integers(1, 3)), draw(st.integers(1, 400))
    segment = draw(st.integers(1, n))
    top_k = draw(st.integers(1, n % segment or segment))
    low, high = draw(st.sampled_from(tuple(ENTRIES.values())))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    logits = random.integers(low, high, (m, n), dtype=np.int32, endpoint=True)
    for place in draw(st.lists(st.integers(0, n - 1), max_size=4)):
        logits[0, place] = draw(st.sampled_from((-(2**31), 2**31 - 1, 0)))
    temperature = draw(st.one_of(st.integers(1, 2**24), st.sampled_from((1, 2**16, 2**24))))
    top_p = draw(st.one_of(st.integers(1, 2**16), st.sampled_from((1, 2**16))))
    seed = np.array([draw(st.integers(-(2**31), 2**31 - 1))], dtype=np.int32)
    so_far = np.zeros(draw(st.integers(1, 9)), dtype=np.int32)
    return logits, seed, so_far, (temperature, top_k, top_p), segment


@settings(max_examples=300, deadline=None)
@given(rows(), st.booleans())
def test_in_two_operators_the_value_is_that_of_one(found, hostile):
    logits, seed, so_far, attributes, segment = found
    table = TABLE if not hostile else np.random.default_rng(3).integers(-(2**15), 2**15, 1024).astype(np.int16)
    expected = SAMPLE.compute((logits, seed, so_far, table), attributes)
    for backend in BACKENDS:
        drawn = in_two(backend, logits, seed, so_far, table, attributes, segment)
        assert drawn.dtype == np.int32
        assert drawn.tolist() == expected.tolist(), backend.name


@pytest.mark.parametrize("entries", ENTRIES)
@pytest.mark.parametrize(("n", "top_k"), [(15_871, 50), (15_871, 1), (15_000, 1024), (9000, 2000)])
def test_rows_as_long_as_sample_takes_them(entries, n, top_k):
    random = np.random.default_rng(n + top_k)
    logits = random.integers(*ENTRIES[entries], (2, n), dtype=np.int32, endpoint=True)
    attributes = (100_000, top_k, 60_000)
    so_far = np.zeros(8, dtype=np.int32)
    expected = SAMPLE.compute((logits, SEED, so_far, TABLE), attributes).tolist()
    for backend in BACKENDS:
        drawn = in_two(backend, logits, SEED, so_far, TABLE, attributes, choose_segment(n, top_k))
        assert drawn.tolist() == expected


def test_the_order_is_by_score_after_the_temperature_then_by_index():
    # 3 / 4 and 2 / 4 both round to 1, 1 / 4 to 0: the lower index goes first, not the larger score
    logits = np.array([[1, 2, 3, -1, 3, 2]], dtype=np.int32)
    keys = sampling.candidates(logits, 2**14, 3, 2)
    assert [(int(key) >> 20, 2**20 - 1 - (int(key) & (2**20 - 1))) for key in keys[0]] == [
        (1, 1),
        (1, 2),
        (1, 4),
        (1, 5),
    ]
    assert sampling.draw(keys, SEED, np.zeros(1, np.int32), TABLE, 1, 2**16).tolist() == [1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20),
    st.integers(1, 2**16),
    st.integers(0, 3),
)
def test_any_int64_is_a_key(values, top_p, extra):
    keys = np.array([values, values[::-1]], dtype=np.int64)
    so_far = np.zeros(1 + extra, dtype=np.int32)
    arguments = ((keys, SEED, so_far, TABLE), (len(values), top_p))
    drawn = [backend.compute(DRAW, *arguments).tolist() for backend in BACKENDS]
    assert all(other == drawn[0] for other in drawn)
    assert all(0 <= token < 2**20 for token in drawn[0])


@pytest.mark.parametrize("rule", [SAMPLE, DRAW], ids=lambda rule: rule.name)
def test_an_element_is_that_of_the_whole_before_the_first_row_too(rule):
    """Five rows behind one: positions below 0. Such a graph makes no sense, but anyone may register it."""
    random = np.random.default_rng(4)
    if rule is SAMPLE:
        first, attributes = random.integers(-9, 9, (5, 64), dtype=np.int32), (2**16, 64, 2**16)
    else:
        first, attributes = random.integers(0, 2**20, (5, 64), dtype=np.int64), (64, 2**16)
    tensors = (first, SEED, np.zeros(1, dtype=np.int32), TABLE)
    types = [TensorType(dtype_by_name(tensor.dtype.name), tensor.shape) for tensor in tensors]
    whole = rule.compute(tensors, attributes)
    assert len(set(whole.tolist())) > 1
    for index in range(5):
        opened = open_inputs(rule, tensors, attributes, index)
        assert compute_element(rule, types, attributes, index, opened) == whole[index]


def test_a_short_last_segment_is_read_with_what_stands_before_it():
    logits = np.arange(10, dtype=np.int32)[None] * 7 % 10
    attributes = (2**16, 4, 2)
    whole = CANDIDATES.compute((logits,), attributes).reshape(-1)
    assert whole.size == 6
    for index in range(6):
        opened = open_inputs(CANDIDATES, (logits,), attributes, index)
        assert opened[0].size * 4 == leaf_bytes(CANDIDATES, (TensorType(INT32, (1, 10)),), attributes) == 16
        assert compute_element(CANDIDATES, (TensorType(INT32, (1, 10)),), attributes, index, opened) == whole[index]


@pytest.mark.parametrize(
    ("attributes", "error"),
    [
        ((0, 4, 1), AttributeOutOfRange),
        ((2**24 + 1, 4, 1), AttributeOutOfRange),
        ((1, 0, 1), AttributeOutOfRange),
        ((1, 11, 1), AttributeOutOfRange),
        ((1, 4, 0), AttributeOutOfRange),
        ((1, 4, 3), AttributeOutOfRange),  # the last of 4, 4 and 2 has two
        ((1, 5, 6), AttributeOutOfRange),
    ],
)
def test_candidates_that_are_refused(attributes, error):
    assert CANDIDATES.output_type((TensorType(INT32, (1, 10)),), (1, 4, 2)).shape == (1, 6)
    with pytest.raises(error):
        CANDIDATES.output_type((TensorType(INT32, (1, 10)),), attributes)


def test_types_that_are_refused():
    others = (TensorType(INT32, (1,)), TensorType(INT32, ("H",)), TensorType(INT16, (1024,)))
    keys = TensorType(INT64, ("R", 6))
    assert DRAW.output_type((keys, *others), (6, 2**16)).shape == ("R",)
    for attributes in ((7, 1), (0, 1), (1, 0), (1, 2**16 + 1)):
        with pytest.raises(AttributeOutOfRange):
            DRAW.output_type((keys, *others), attributes)
    with pytest.raises(WrongDtype):
        DRAW.output_type((TensorType(INT32, (1, 6)), *others), (6, 1))
    with pytest.raises(WrongShape):
        DRAW.output_type((TensorType(INT64, (1, "R")), *others), (1, 1))
    with pytest.raises(WrongShape):
        CANDIDATES.output_type((TensorType(INT32, (1, 2**20 + 1)),), (1, 4, 1))
    with pytest.raises(WrongShape):
        CANDIDATES.output_type((TensorType(INT32, (1, "R")),), (1, 1, 1))


def leaves(n, segment, top_k):
    logits = TensorType(INT32, (1, n))
    keys = CANDIDATES.output_type((logits,), (1, segment, top_k))
    others = (TensorType(INT32, (1,)), TensorType(INT32, (5,)), TensorType(INT16, (1024,)))
    DRAW.output_type((keys, *others), (top_k, 1))
    check_leaf_bytes(CANDIDATES, (logits,), (1, segment, top_k))
    check_leaf_bytes(DRAW, (keys, *others), (top_k, 1))
    return leaf_bytes(CANDIDATES, (logits,), (1, segment, top_k)), leaf_bytes(DRAW, (keys, *others), (top_k, 1))


@settings(max_examples=300, deadline=None)
@given(st.integers(SAMPLE_MAX + 1, 2**20), st.integers(1, CANDIDATES_MAX))
def test_every_split_fits_a_proof_or_is_refused(n, top_k):
    largest = CANDIDATES_MAX // -(-n // SEGMENT_MAX)
    if top_k > largest:
        with pytest.raises(SizeOutOfRange, match=f"at most {largest} where there are {n} tokens"):
            choose_segment(n, top_k)
    else:
        leaves(n, choose_segment(n, top_k), top_k)


@pytest.mark.parametrize(
    ("n", "top_k", "largest"), [(32_000, 40, 8500), (151_936, 50, 18_000), (128_256, 50, 16_500), (2**20, 123, 65_536)]
)
def test_proofs_of_real_vocabularies_are_small(n, top_k, largest):
    assert max(leaves(n, choose_segment(n, top_k), top_k)) <= largest


def test_a_split_that_no_proof_holds_is_refused():
    with pytest.raises(LeafTooLarge):
        leaves(32_000, 32_000, 40)
    with pytest.raises(LeafTooLarge):
        leaves(32_000, 100, 40)
