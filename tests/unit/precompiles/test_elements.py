"""One element of an operator: what is refused by name, leaves, witnesses."""

import numpy as np
import pytest

from pouw.backends.registry import all_cases
from pouw.operators.elements import (
    ELEMENT_RULES,
    LEAF_BYTES_MAX,
    WITNESS_RULES,
    ElementOutOfRange,
    LeafTooLarge,
    NoElementRule,
    WrongOpening,
    check_leaf_bytes,
    compute_element,
    element_inputs,
    leaf_bytes,
    open_inputs,
    witness_bytes,
)
from pouw.operators.elements_decoder import refutes_argmax
from pouw.operators.errors import TensorOutOfRange, WrongArity, WrongShape
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import TensorType
from pouw.trace import INT8, INT16, INT32, dtype_by_name

MATMUL = RULE_BY_NAME["matmul"]
TYPES = (TensorType(INT8, (3, 8)), TensorType(INT8, (5, 8)))
A, B = np.arange(24, dtype=np.int8).reshape(3, 8), np.arange(40, dtype=np.int8).reshape(5, 8)


def test_a_product_reads_one_row_of_each_operand():
    assert element_inputs(MATMUL, (A, B), (0,), 7) == (((8, 16),), ((16, 24),))
    opened = open_inputs(MATMUL, (A, B), (0,), 7)
    assert compute_element(MATMUL, TYPES, (0,), 7, opened) == int(A[1].astype(int) @ B[2].astype(int))


def test_which_entry_of_a_table_is_read_depends_on_a_value():
    table = np.arange(20, dtype=np.int16).reshape(10, 2)
    ids = np.array([7, 3], np.int32)
    assert element_inputs(RULE_BY_NAME["embedding"], (ids, table), (), 3) == (((4, 8),), ((14, 16),))
    with pytest.raises(TensorOutOfRange):
        element_inputs(RULE_BY_NAME["embedding"], (ids + 3, table), (), 0)


def test_a_column_is_read_entry_by_entry():
    x = np.arange(12, dtype=np.int16).reshape(3, 4)
    assert element_inputs(RULE_BY_NAME["mean_pool"], (x,), (0,), 1) == (((2, 4), (10, 12), (18, 20)),)


@pytest.mark.parametrize("index", [-1, 15, 2**64])
def test_an_element_beyond_the_output_is_refused(index):
    with pytest.raises(ElementOutOfRange):
        compute_element(MATMUL, TYPES, (0,), index, (A[0], B[0]))


def test_openings_of_another_size_or_dtype_are_refused():
    with pytest.raises(WrongOpening):
        compute_element(MATMUL, TYPES, (0,), 0, (A[0], B[0][:-1]))
    with pytest.raises(WrongOpening):
        compute_element(MATMUL, TYPES, (0,), 0, (A[0], B[0].astype(np.int16)))


def test_types_and_values_are_checked_as_in_the_operator():
    with pytest.raises(WrongShape):
        compute_element(MATMUL, (TYPES[0], TensorType(INT8, (5, 9))), (0,), 0, (A[0], B[0]))
    with pytest.raises(WrongArity):
        compute_element(MATMUL, TYPES, (), 0, (A[0], B[0]))
    with pytest.raises(TensorOutOfRange):
        compute_element(MATMUL, TYPES, (1,), 0, (A[0], np.full(8, 65, np.int8)))


def test_every_operator_states_how_one_element_is_recomputed():
    assert set(ELEMENT_RULES) == set(RULE_BY_NAME)
    assert set(WITNESS_RULES) <= set(ELEMENT_RULES)
    with pytest.raises(NoElementRule):
        witness_bytes(MATMUL, TYPES, (0,))


def test_leaves():
    assert leaf_bytes(MATMUL, (TensorType(INT8, (1, 4096)), TensorType(INT8, (1, 4096))), (0,)) == 8192
    widest = TensorType(INT32, (16_384,))
    check_leaf_bytes(RULE_BY_NAME["l2_normalize"], (widest,), ())
    assert leaf_bytes(RULE_BY_NAME["l2_normalize"], (widest,), ()) == LEAF_BYTES_MAX
    with pytest.raises(LeafTooLarge):
        check_leaf_bytes(RULE_BY_NAME["l2_normalize"], (TensorType(INT32, (16_385,)),), ())
    check_leaf_bytes(RULE_BY_NAME["argmax"], (TensorType(INT32, (1, 128_000)),), ())  # by a witness
    pool = TensorType(INT16, (64, 64, 9))
    check_leaf_bytes(RULE_BY_NAME["max_pool"], (pool,), (64, 1))


def test_a_witness_refutes_an_index_that_is_not_the_first_largest():
    x = np.array([[1, 9, 4, 9]], np.int32)

    def refutes(claimed, witness):
        return refutes_argmax(((1, 4),), (), 0, claimed, witness, lambda _, window: x.reshape(-1)[window.indices()])

    assert refutes(2, 1)
    assert refutes(3, 1)
    assert refutes(4, 0)
    assert not any(refutes(1, witness) for witness in range(-1, 6))


SCENES = {f"{case[0]} {number}": case for number, case in enumerate(all_cases()) if RULE_BY_NAME[case[0]].code >= 40}


@pytest.mark.parametrize("case", SCENES)
def test_an_element_of_a_scene_is_that_of_the_whole(case):
    name, tensors, attributes = SCENES[case]
    rule = RULE_BY_NAME[name]
    expected = rule.compute(tensors, attributes).reshape(-1)
    types = [TensorType(dtype_by_name(tensor.dtype.name), tensor.shape) for tensor in tensors]
    for index in {0, expected.size - 1, *range(0, expected.size, max(1, expected.size // 40))}:
        opened = open_inputs(rule, tensors, attributes, index)
        assert sum(values.nbytes for values in opened) == leaf_bytes(rule, types, attributes)
        assert compute_element(rule, types, attributes, index, opened) == expected[index]


def test_a_key_that_names_no_triangle_is_refused():
    name, tensors, attributes = next(case for case in SCENES.values() if case[0] == "interpolate")
    for wrong in (-1, tensors[2].shape[0]):
        keys = np.full_like(tensors[0], wrong)
        with pytest.raises(TensorOutOfRange):
            open_inputs(RULE_BY_NAME[name], (keys, *tensors[1:]), attributes, 0)


def test_a_column_counts_the_chunks_that_it_lies_in():
    mix = RULE_BY_NAME["attention_mix"]

    def types(keys, width):
        return TensorType(INT16, (1, 1, keys)), TensorType(INT16, (keys, width))

    check_leaf_bytes(mix, types(63, 1152), (32, 0))
    with pytest.raises(LeafTooLarge):
        check_leaf_bytes(mix, types(64, 1152), (32, 0))
    check_leaf_bytes(mix, types(8192, 2), (2, 0))  # all of a narrow tensor
    turned = (TensorType(INT16, (12, 1, 256)), TensorType(INT16, (384, 256)))
    check_leaf_bytes(RULE_BY_NAME["grouped_mix"], turned, (12,))
