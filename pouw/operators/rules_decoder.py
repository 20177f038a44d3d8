"""Operators of a Llama decoder: their rows of the table, with types and bounds."""

from pouw.operators import causal, decoder, sampling
from pouw.operators.attention import WEIGHT_TABLE_SIZE
from pouw.operators.rule import Attributes, OperatorRule, Types
from pouw.operators.rules_encoder import HEAD_SIZE_MAX, HEADS_MAX, WIDTH_MAX
from pouw.operators.types import TensorType, Term, check_attribute, check_number, check_tensor, product
from pouw.trace import INT16, INT32, INT64


def _widen(tensors: Types, attributes: Attributes) -> TensorType:
    check_tensor("x", tensors[0], INT16, (None, None))
    check_attribute("shift", attributes[0], 0, 9)
    return TensorType(INT32, tensors[0].shape)


def _rescale_wide(tensors: Types, attributes: Attributes) -> TensorType:
    x, maximum, multipliers, bias = tensors
    check_tensor("product", x, INT32, (None, None))
    check_tensor("maximum", maximum, INT32, (x.shape[0],))
    check_tensor("multipliers", multipliers, INT32, (x.shape[1],))
    check_tensor("bias", bias, INT32, (x.shape[1],))
    check_attribute("shift", attributes[0], 1, 62)
    return x


def _accumulate(tensors: Types, _: Attributes) -> TensorType:
    check_tensor("x", tensors[0], INT32, (None, None))
    check_tensor("y", tensors[1], INT32, tensors[0].shape)
    return tensors[0]


def _rms_norm(tensors: Types, attributes: Attributes) -> TensorType:
    v, gamma = tensors
    epsilon, shift = attributes
    check_tensor("v", v, INT32, (None, None))
    n = check_number("width", v.shape[1], 1, decoder.RMS_WIDTH_MAX)
    check_tensor("gamma", gamma, INT32, (n,))
    check_attribute("epsilon", epsilon, 0, decoder.EPSILON_MAX)
    check_attribute("shift", shift, 1, 40)
    return TensorType(INT16, v.shape)


def _check_heads(heads: int, head_size: int) -> int:
    check_attribute("heads", heads, 1, HEADS_MAX)
    check_attribute("head_size", head_size, 1, HEAD_SIZE_MAX)
    return heads * head_size


def _rope(tensors: Types, attributes: Attributes) -> TensorType:
    x, so_far, table = tensors
    heads, head_size, offset = attributes
    check_tensor("x", x, INT16, (None, None))
    check_tensor("rows so far", so_far, INT32, (None,))
    width = check_number("width", x.shape[1], 1, WIDTH_MAX)
    columns = _check_heads(heads, head_size)
    check_attribute("head_size's remainder by 2", head_size % 2, 0, 0)
    check_attribute("offset", offset, 0, width - columns)
    check_tensor("table", table, INT16, (None, head_size))
    check_number("positions", table.shape[0], 1, 2**24)
    return TensorType(INT16, (x.shape[0], columns))


def _transpose_columns(tensors: Types, attributes: Attributes) -> TensorType:
    offset, count = attributes
    check_tensor("x", tensors[0], INT16, (None, None))
    width = check_number("width", tensors[0].shape[1], 1, WIDTH_MAX)
    check_attribute("count", count, 1, width)
    check_attribute("offset", offset, 0, width - count)
    return TensorType(INT16, (count, tensors[0].shape[0]))


def _causal_scores(tensors: Types, attributes: Attributes) -> TensorType:
    queries, keys = tensors
    heads, kv_heads, head_size, shift = attributes
    check_attribute("kv_heads", kv_heads, 1, heads)
    check_attribute("heads' remainder by kv_heads", heads % kv_heads, 0, 0)
    check_tensor("queries", queries, INT16, (None, _check_heads(heads, head_size)))
    check_tensor("keys", keys, INT16, (None, kv_heads * head_size))
    check_attribute("shift", shift, 1, 40)
    return TensorType(INT32, (heads, queries.shape[0], keys.shape[0]))


def _scores_macs(tensors: Types, attributes: Attributes) -> Term:
    heads, _, head_size, _ = attributes
    return product((heads, head_size, tensors[0].shape[0], tensors[1].shape[0]))


def _causal_softmax(tensors: Types, _: Attributes) -> TensorType:
    check_tensor("scores", tensors[0], INT32, (None, None, None))
    check_tensor("table", tensors[1], INT16, (WEIGHT_TABLE_SIZE,))
    return TensorType(INT16, tensors[0].shape)


def _grouped_mix(tensors: Types, attributes: Attributes) -> TensorType:
    weights, values = tensors
    kv_heads = attributes[0]
    check_tensor("values transposed", values, INT16, (None, None))
    check_tensor("weights", weights, INT16, (None, None, values.shape[1]))
    heads = check_number("heads", weights.shape[0], 1, HEADS_MAX)
    check_attribute("kv_heads", kv_heads, 1, heads)
    check_attribute("heads' remainder by kv_heads", heads % kv_heads, 0, 0)
    rows = check_number("rows of values", values.shape[0], kv_heads, HEAD_SIZE_MAX * kv_heads)
    check_attribute("rows' remainder by kv_heads", rows % kv_heads, 0, 0)
    return TensorType(INT16, (weights.shape[1], heads * (rows // kv_heads)))


def _mix_macs(tensors: Types, attributes: Attributes) -> Term:
    rows = check_number("rows of values", tensors[1].shape[0], 1, 2**31)
    return product((*tensors[0].shape, rows // attributes[0]))


def _gated_product(tensors: Types, attributes: Attributes) -> TensorType:
    check_tensor("x", tensors[0], INT16, (None, None))
    check_tensor("y", tensors[1], INT16, tensors[0].shape)
    check_attribute("shift", attributes[0], 1, 30)
    return tensors[0]


def _last_row(tensors: Types, _: Attributes) -> TensorType:
    check_tensor("x", tensors[0], INT32, (None, None))
    return TensorType(INT32, (1, tensors[0].shape[1]))


def _argmax(tensors: Types, _: Attributes) -> TensorType:
    check_tensor("x", tensors[0], INT32, (None, None))
    return TensorType(INT32, (tensors[0].shape[0],))


def _sample(tensors: Types, attributes: Attributes) -> TensorType:
    logits, seed, so_far, table = tensors
    temperature, top_k, top_p = attributes
    check_tensor("logits", logits, INT32, (None, None))
    n = check_number("vocabulary", logits.shape[1], 1, sampling.VOCABULARY_MAX)
    check_tensor("seed", seed, INT32, (1,))
    check_tensor("rows so far", so_far, INT32, (None,))
    check_tensor("table", table, INT16, (WEIGHT_TABLE_SIZE,))
    check_attribute("temperature", temperature, 1, sampling.TEMPERATURE_MAX)
    check_attribute("top_k", top_k, 1, n)
    check_attribute("top_p", top_p, 1, 1 << sampling.SHARE_BITS)
    return TensorType(INT32, (logits.shape[0],))


def _candidates(tensors: Types, attributes: Attributes) -> TensorType:
    temperature, segment, count = attributes
    check_tensor("logits", tensors[0], INT32, (None, None))
    n = check_number("vocabulary", tensors[0].shape[1], 1, sampling.VOCABULARY_MAX)
    check_attribute("temperature", temperature, 1, sampling.TEMPERATURE_MAX)
    check_attribute("segment", segment, 1, n)
    check_attribute("count", count, 1, n % segment or segment)
    return TensorType(INT64, (tensors[0].shape[0], -(-n // segment) * count))


def _draw(tensors: Types, attributes: Attributes) -> TensorType:
    keys, seed, so_far, table = tensors
    top_k, top_p = attributes
    check_tensor("keys", keys, INT64, (None, None))
    c = check_number("candidates", keys.shape[1], 1, sampling.VOCABULARY_MAX)
    check_tensor("seed", seed, INT32, (1,))
    check_tensor("rows so far", so_far, INT32, (None,))
    check_tensor("table", table, INT16, (WEIGHT_TABLE_SIZE,))
    check_attribute("top_k", top_k, 1, c)
    check_attribute("top_p", top_p, 1, 1 << sampling.SHARE_BITS)
    return TensorType(INT32, (keys.shape[0],))


_HEADS = ("heads", "head_size", "offset")
_SCORES = ("heads", "kv_heads", "head_size", "shift")
_SAMPLE = ("temperature", "top_k", "top_p")
_CANDIDATES = ("temperature", "segment", "count")

RULES = (
    OperatorRule(15, "widen", 1, ("shift",), _widen, decoder.widen),
    OperatorRule(16, "rescale_wide", 4, ("shift",), _rescale_wide, decoder.rescale_wide),
    OperatorRule(17, "accumulate", 2, (), _accumulate, decoder.accumulate),
    OperatorRule(18, "rms_norm", 2, ("epsilon", "shift"), _rms_norm, decoder.rms_norm),
    OperatorRule(19, "rope", 3, _HEADS, _rope, decoder.rope),
    OperatorRule(20, "transpose_columns", 1, ("offset", "count"), _transpose_columns, decoder.transpose_columns),
    OperatorRule(21, "causal_scores", 2, _SCORES, _causal_scores, causal.causal_scores, _scores_macs),
    OperatorRule(22, "causal_softmax", 2, (), _causal_softmax, causal.causal_softmax),
    OperatorRule(23, "grouped_mix", 2, ("kv_heads",), _grouped_mix, causal.grouped_mix, _mix_macs),
    OperatorRule(24, "gated_product", 2, ("shift",), _gated_product, decoder.gated_product),
    OperatorRule(25, "last_row", 1, (), _last_row, decoder.last_row),
    OperatorRule(26, "argmax", 1, (), _argmax, sampling.argmax),
    OperatorRule(27, "sample", 4, _SAMPLE, _sample, sampling.sample),
    OperatorRule(28, "candidates", 1, _CANDIDATES, _candidates, sampling.candidates),
    OperatorRule(29, "draw", 4, ("top_k", "top_p"), _draw, sampling.draw),
)
