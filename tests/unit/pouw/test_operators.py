"""Each operator against its own words, written out once more in Python integers."""

from math import floor, isqrt

import numpy as np
import pytest

from chain.errors import HyperdustError
from pouw.compiler.tables import gelu_table, power_table
from pouw.operators import activation, attention, embedding, linear, norm
from pouw.operators.arithmetic import floor_root, round_shift
from pouw.operators.errors import AttributeOutOfRange, TensorOutOfRange, WrongArity, WrongDtype, WrongShape
from pouw.operators.rules import RULE_BY_CODE, RULE_BY_NAME, RULES
from pouw.operators.types import TensorType
from pouw.trace import INT8, INT16, INT32


def ints(*values, dtype=np.int16):
    return np.array(values, dtype=dtype)


@pytest.mark.parametrize(
    ("x", "n", "expected"), [(3, 1, 2), (-3, 1, -1), (-1, 1, 0), (5, 2, 1), (6, 2, 2), (-6, 2, -1)]
)
def test_round_shift_rounds_halves_up(x, n, expected):
    assert round_shift(np.array([x], dtype=np.int64), n)[0] == expected == floor((x + 2 ** (n - 1)) / 2**n)


def test_floor_root_is_the_floor_around_every_square():
    for root in (0, 1, 2, 94_906_265, 94_906_267, 2**31 - 1):
        square = root * root
        values = np.array([square, max(square - 1, 0), square + 1], dtype=np.int64)
        assert floor_root(values).tolist() == [isqrt(int(value)) for value in values]


def test_row_maximum_is_at_least_one():
    x = np.array([[0, 0], [-32768, 5]], dtype=np.int16)
    assert linear.row_maximum(x, ints(1, 256)).tolist() == [1, 32768]


def test_quantize_meets_its_bounds_exactly():
    x = np.array([[-300, 300, 1, 0]], dtype=np.int16)
    factors = ints(2, 2, 1, 7)
    maximum = linear.row_maximum(x, factors)
    q = linear.quantize(x, maximum, factors, 63)
    r = (63 << 30) // 600
    assert q.tolist() == [[(-600 * r + 2**29) >> 30, (600 * r + 2**29) >> 30, (r + 2**29) >> 30, 0]]
    assert q.min() == -63
    assert q.max() == 63


@pytest.mark.parametrize("factor", [0, -1, 257])
def test_a_factor_out_of_range_is_named(factor):
    with pytest.raises(TensorOutOfRange, match="factors"):
        linear.row_maximum(np.ones((1, 1), dtype=np.int16), ints(factor))


@pytest.mark.parametrize("value", [65, -65])
@pytest.mark.parametrize("operand", [0, 1])
def test_a_mining_operand_has_seven_bits(value, operand):
    pair = [np.full((2, 4), 64, dtype=np.int8), np.full((3, 4), -64, dtype=np.int8)]
    assert (linear.matmul(*pair, 1) == -64 * 64 * 4).all()
    pair[operand][1, 2] = value
    assert linear.matmul(*pair, 0).shape == (2, 3)
    with pytest.raises(TensorOutOfRange, match="mining operand"):
        linear.matmul(*pair, 1)


def test_matmul_is_exact_at_the_ends():
    a = np.full((1, 4096), -128, dtype=np.int8)
    assert linear.matmul(a, a, 0).tolist() == [[128 * 128 * 4096]]


def test_rescale_saturates_at_its_limit():
    product = np.array([[10, -10, 2**31 - 1, -(2**31)]], dtype=np.int32)
    ones = np.ones(4, dtype=np.int32)
    y = linear.rescale(product, ints(3, dtype=np.int32), ones * 5, ones * -1, 2, 100)
    assert y.tolist() == [[(150 + 2) // 4 - 1, (-150 + 2) // 4 - 1, 100, -100]]


def test_layer_norm_matches_its_words():
    v = np.array([[1, -7, 40, 65536, 70000], [3, 3, 3, 3, 3]], dtype=np.int32)
    gamma, beta = np.full(5, 4096, dtype=np.int32), np.full(5, 1 << 20, dtype=np.int32)
    got = norm.layer_norm(v, gamma, beta)
    row = [1, -7, 40, 65536, 65536]
    centered = [5 * value - sum(row) for value in row]
    reciprocal = norm.scaled_root(5) // max(1, isqrt(sum(value * value for value in centered)))
    y = [(value * reciprocal + 2**25) >> 26 for value in centered]
    assert got[0].tolist() == [(value * 4096 + (1 << 20) + 2**15) >> 16 for value in y]
    assert got[1].tolist() == [16] * 5


@pytest.mark.parametrize("n", [1, 2, 384, 1024])
def test_scaled_root_is_rounded(n):
    root = norm.scaled_root(n)
    assert (2 * root - 1) ** 2 <= 4 * (n << 80) < (2 * root + 1) ** 2


def test_mean_pool_rounds_halves_up():
    x = np.array([[1, -1], [2, -2]], dtype=np.int16)
    assert norm.mean_pool(x, 0).tolist() == [2, -1]
    assert norm.mean_pool(x, 3).tolist() == [12, -12]


def test_l2_normalize_of_zero_and_of_a_unit():
    assert norm.l2_normalize(np.zeros(3, dtype=np.int32)).tolist() == [0, 0, 0]
    assert norm.l2_normalize(ints(0, -9, 0, dtype=np.int32)).tolist() == [0, -32767, 0]


def test_attention_of_one_key_returns_its_value():
    qkv = np.array([[4, 5, 6, 7, 100, -100]], dtype=np.int16)
    scores = attention.attention_scores(qkv, qkv, 1, 2, 0, 2, 1)
    assert scores.tolist() == [[[(4 * 6 + 5 * 7 + 1) >> 1]]]
    weights = attention.softmax_weights(scores, power_table())
    assert weights.tolist() == [[[2**15 - 1]]]
    assert attention.attention_mix(weights, qkv, 2, 4).tolist() == [[100, -100]]


def test_softmax_weights_halve_with_every_1024():
    scores = np.array([[[2**31 - 1, 2**31 - 1 - 1024, 0, -(2**31)]]], dtype=np.int32)
    assert attention.softmax_weights(scores, power_table()).tolist() == [[[32767, 16383, 0, 0]]]


def test_lookup_beyond_the_table():
    x = np.array([[-32768, -8193, -8192, 8191, 8192, 32767]], dtype=np.int16)
    table = np.arange(16384).astype(np.int16)
    assert activation.lookup(x, table).tolist() == [[0, 0, 0, 16383, 8192, 32767]]


def test_tables_are_rounded_to_the_nearest():
    gelu, power = gelu_table(), power_table()
    assert [gelu[8192 + x] for x in (-8192, -1024, 0, 1024, 8191)] == [0, -162, 0, 862, 8191]
    assert [power[i] for i in (0, 512, 1023)] == [32767, 23170, 16395]


@pytest.mark.parametrize("bad", [-1, 5])
def test_an_unknown_token_is_named(bad):
    table = np.zeros((5, 2), dtype=np.int16)
    with pytest.raises(TensorOutOfRange, match="token id"):
        embedding.embedding(ints(0, bad, dtype=np.int32), table)


def test_codes_and_names_are_distinct():
    assert len(RULE_BY_CODE) == len(RULE_BY_NAME) == len(RULES)
    assert [rule.code for rule in RULES] == sorted({rule.code for rule in RULES})


A = TensorType(INT8, ("S", 64))
ROWS = TensorType(INT16, ("S", 4))


@pytest.mark.parametrize(
    ("name", "tensors", "attributes", "error"),
    [
        ("matmul", (A,), (0,), WrongArity),
        ("matmul", (A, A), (), WrongArity),
        ("matmul", (A, TensorType(INT8, (8, 63))), (0,), WrongShape),
        ("matmul", (A, TensorType(INT16, (8, 64))), (0,), WrongDtype),
        ("matmul", (A, TensorType(INT8, (8, 64))), (2,), AttributeOutOfRange),
        ("matmul", (TensorType(INT8, (4, 2**17)), TensorType(INT8, (8, 2**17))), (0,), WrongShape),
        ("matmul", (TensorType(INT8, (4, "S")), TensorType(INT8, (8, "S"))), (0,), WrongShape),
        (
            "quantize",
            (TensorType(INT16, ("S", 4)), TensorType(INT32, ("S",)), TensorType(INT16, (4,))),
            (128,),
            AttributeOutOfRange,
        ),
        ("layer_norm", (TensorType(INT32, ("S", 1025)),) + (TensorType(INT32, (1025,)),) * 2, (), WrongShape),
        ("attention_scores", (TensorType(INT16, ("S", 8)),) * 2, (2, 4, 0, 1, 5), AttributeOutOfRange),
        ("attention_mix", (TensorType(INT16, (2, "S", "S")), TensorType(INT16, (5, 8))), (4, 0), WrongShape),
        ("lookup", (TensorType(INT16, ("S", 8)), TensorType(INT16, (100,))), (), WrongShape),
        ("mean_pool", (TensorType(INT16, ("S", 8)),), (9,), AttributeOutOfRange),
    ],
)
def test_types_that_do_not_fit_are_named(name, tensors, attributes, error):
    with pytest.raises(error) as caught:
        RULE_BY_NAME[name].output_type(tensors, attributes)
    assert isinstance(caught.value, HyperdustError)
