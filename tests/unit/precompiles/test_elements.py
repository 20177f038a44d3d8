"""One element of an operator: what is refused by name, leaves, witnesses."""

import numpy as np
import pytest

from pouw.operators.elements import (
    ELEMENT_RULES,
    LEAF_BYTES_MAX,
    ElementOutOfRange,
    LeafTooLarge,
    NoElementRule,
    WrongOpening,
    check_leaf_bytes,
    compute_element,
    element_inputs,
    leaf_bytes,
    open_inputs,
)
from pouw.operators.elements_decoder import refutes_argmax
from pouw.operators.errors import TensorOutOfRange, WrongArity, WrongShape
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import TensorType
from pouw.trace import INT8, INT16, INT32

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


def test_operators_of_scenes_have_no_element_yet():
    assert "shade" not in ELEMENT_RULES
    with pytest.raises(NoElementRule):
        leaf_bytes(RULE_BY_NAME["rasterize"], (), ())


def test_leaves():
    assert leaf_bytes(MATMUL, (TensorType(INT8, (1, 4096)), TensorType(INT8, (1, 4096))), (0,)) == 8192
    widest = TensorType(INT32, (16_384,))
    check_leaf_bytes(RULE_BY_NAME["l2_normalize"], (widest,), ())
    assert leaf_bytes(RULE_BY_NAME["l2_normalize"], (widest,), ()) == LEAF_BYTES_MAX
    with pytest.raises(LeafTooLarge):
        check_leaf_bytes(RULE_BY_NAME["argmax"], (TensorType(INT32, (1, 16_385)),), ())
    pool = TensorType(INT16, (64, 64, 9))
    check_leaf_bytes(RULE_BY_NAME["max_pool"], (pool,), (64, 1))


def test_a_witness_refutes_an_index_that_is_not_the_first_largest():
    x = np.array([[1, 9, 4, 9]], np.int32)

    def refutes(claimed, witness):
        return refutes_argmax(((1, 4),), 0, claimed, witness, lambda _, window: x.reshape(-1)[window.indices()])

    assert refutes(2, 1)
    assert refutes(3, 1)
    assert refutes(4, 0)
    assert not any(refutes(1, witness) for witness in range(-1, 6))
