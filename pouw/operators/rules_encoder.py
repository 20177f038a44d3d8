"""Operators of a BERT encoder: their rows of the table, with types and bounds."""

from pouw.operators import activation, attention, embedding, linear, norm
from pouw.operators.rule import Attributes, OperatorRule, Types
from pouw.operators.types import TensorType, Term, check_attribute, check_number, check_tensor, product
from pouw.trace import INT8, INT16, INT32

MATMUL_DEPTH_MAX = 2**17 - 1  # 2^14 * k < 2^31
WIDTH_MAX = 2**20
HEADS_MAX = 1024
HEAD_SIZE_MAX = 8192  # * 2^30 < 2^43


def _embedding(tensors: Types, _: Attributes) -> TensorType:
    ids, table = tensors
    check_tensor("ids", ids, INT32, (None,))
    check_tensor("table", table, INT16, (None, None))
    check_number("table rows", table.shape[0], 1, 2**31 - 1)
    return TensorType(INT16, (ids.shape[0], table.shape[1]))


def _add_positions(tensors: Types, _: Attributes) -> TensorType:
    x, table = tensors
    check_tensor("x", x, INT16, (None, None))
    check_tensor("positions", table, INT16, (None, x.shape[1]))
    return TensorType(INT32, x.shape)


def _row_maximum(tensors: Types, _: Attributes) -> TensorType:
    x, factors = tensors
    check_tensor("x", x, INT16, (None, None))
    check_tensor("factors", factors, INT16, (x.shape[1],))
    return TensorType(INT32, (x.shape[0],))


def _quantize(tensors: Types, attributes: Attributes) -> TensorType:
    x, maximum, factors = tensors
    check_tensor("x", x, INT16, (None, None))
    check_tensor("maximum", maximum, INT32, (x.shape[0],))
    check_tensor("factors", factors, INT16, (x.shape[1],))
    check_attribute("q_max", attributes[0], 1, 127)
    return TensorType(INT8, x.shape)


def _matmul(tensors: Types, attributes: Attributes) -> TensorType:
    a, b = tensors
    check_tensor("a", a, INT8, (None, None))
    check_tensor("b transposed", b, INT8, (None, a.shape[1]))
    check_number("k", a.shape[1], 1, MATMUL_DEPTH_MAX)
    check_attribute("mining", attributes[0], 0, 1)
    return TensorType(INT32, (a.shape[0], b.shape[0]))


def _matmul_macs(tensors: Types, _: Attributes) -> Term:
    return product((*tensors[0].shape, tensors[1].shape[0]))


def _rescale(tensors: Types, attributes: Attributes) -> TensorType:
    x, maximum, multipliers, bias = tensors
    check_tensor("product", x, INT32, (None, None))
    check_tensor("maximum", maximum, INT32, (x.shape[0],))
    check_tensor("multipliers", multipliers, INT32, (x.shape[1],))
    check_tensor("bias", bias, INT32, (x.shape[1],))
    check_attribute("shift", attributes[0], 1, 62)
    check_attribute("limit", attributes[1], 1, 2**15 - 1)
    return TensorType(INT16, x.shape)


def _add(tensors: Types, _: Attributes) -> TensorType:
    check_tensor("x", tensors[0], INT16, (None, None))
    check_tensor("y", tensors[1], INT16, tensors[0].shape)
    return TensorType(INT32, tensors[0].shape)


def _layer_norm(tensors: Types, _: Attributes) -> TensorType:
    v, gamma, beta = tensors
    check_tensor("v", v, INT32, (None, None))
    n = check_number("width", v.shape[1], 1, norm.NORM_WIDTH_MAX)
    check_tensor("gamma", gamma, INT32, (n,))
    check_tensor("beta", beta, INT32, (n,))
    return TensorType(INT16, v.shape)


def _check_heads(x: TensorType, heads: int, head_size: int, offset: int) -> None:
    check_tensor("x", x, INT16, (None, None))
    width = check_number("width", x.shape[1], 1, WIDTH_MAX)
    check_attribute("heads", heads, 1, HEADS_MAX)
    check_attribute("head_size", head_size, 1, HEAD_SIZE_MAX)
    check_attribute("offset", offset, 0, width - heads * head_size)


def _attention_scores(tensors: Types, attributes: Attributes) -> TensorType:
    queries, keys = tensors
    heads, head_size, query_offset, key_offset, shift = attributes
    _check_heads(queries, heads, head_size, query_offset)
    _check_heads(keys, heads, head_size, key_offset)
    check_attribute("shift", shift, 1, 40)
    return TensorType(INT32, (heads, queries.shape[0], keys.shape[0]))


def _scores_macs(tensors: Types, attributes: Attributes) -> Term:
    heads, head_size, *_ = attributes
    return product((heads, head_size, tensors[0].shape[0], tensors[1].shape[0]))


def _softmax_weights(tensors: Types, _: Attributes) -> TensorType:
    scores, table = tensors
    check_tensor("scores", scores, INT32, (None, None, None))
    check_tensor("table", table, INT16, (attention.WEIGHT_TABLE_SIZE,))
    return TensorType(INT16, scores.shape)


def _attention_mix(tensors: Types, attributes: Attributes) -> TensorType:
    weights, values = tensors
    head_size, offset = attributes
    check_tensor("weights", weights, INT16, (None, None, values.shape[0] if values.shape else None))
    heads = check_number("heads", weights.shape[0], 1, HEADS_MAX)
    _check_heads(values, heads, head_size, offset)
    return TensorType(INT16, (weights.shape[1], heads * head_size))


def _mix_macs(tensors: Types, attributes: Attributes) -> Term:
    return product((*tensors[0].shape, attributes[0]))


def _lookup(tensors: Types, _: Attributes) -> TensorType:
    check_tensor("x", tensors[0], INT16, (None, None))
    check_tensor("table", tensors[1], INT16, (activation.TABLE_SIZE,))
    return tensors[0]


def _mean_pool(tensors: Types, attributes: Attributes) -> TensorType:
    check_tensor("x", tensors[0], INT16, (None, None))
    check_attribute("fraction_bits", attributes[0], 0, 8)
    return TensorType(INT32, (tensors[0].shape[1],))


def _l2_normalize(tensors: Types, _: Attributes) -> TensorType:
    check_tensor("v", tensors[0], INT32, (None,))
    check_number("width", tensors[0].shape[0], 1, norm.L2_WIDTH_MAX)
    return TensorType(INT16, tensors[0].shape)


_SCORES = ("heads", "head_size", "query_offset", "key_offset", "shift")
_MIX = ("head_size", "value_offset")

RULES = (
    OperatorRule(1, "embedding", 2, (), _embedding, embedding.embedding),
    OperatorRule(2, "add_positions", 2, (), _add_positions, embedding.add_positions),
    OperatorRule(3, "row_maximum", 2, (), _row_maximum, linear.row_maximum),
    OperatorRule(4, "quantize", 3, ("q_max",), _quantize, linear.quantize),
    OperatorRule(5, "matmul", 2, ("mining",), _matmul, linear.matmul, _matmul_macs),
    OperatorRule(6, "rescale", 4, ("shift", "limit"), _rescale, linear.rescale),
    OperatorRule(7, "add", 2, (), _add, linear.add),
    OperatorRule(8, "layer_norm", 3, (), _layer_norm, norm.layer_norm),
    OperatorRule(9, "attention_scores", 2, _SCORES, _attention_scores, attention.attention_scores, _scores_macs),
    OperatorRule(10, "softmax_weights", 2, (), _softmax_weights, attention.softmax_weights),
    OperatorRule(11, "attention_mix", 2, _MIX, _attention_mix, attention.attention_mix, _mix_macs),
    OperatorRule(12, "lookup", 2, (), _lookup, activation.lookup),
    OperatorRule(13, "mean_pool", 1, ("fraction_bits",), _mean_pool, norm.mean_pool),
    OperatorRule(14, "l2_normalize", 1, (), _l2_normalize, norm.l2_normalize),
)
