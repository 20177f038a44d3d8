"""One element of the encoder's operators, from the least that it needs.

Nothing here needs a witness: a maximum is recomputed from its row, which `leaf_bytes` bounds.
"""

from math import prod

import numpy as np

from pouw.operators import activation, attention, embedding, linear, norm
from pouw.operators.arithmetic import check_values
from pouw.operators.element import Attributes, ElementRule, Read, Shapes, Window, value_at


def _embedding(shapes: Shapes, _: Attributes, index: int, read: Read) -> int:
    rows, n = shapes[1]
    row, column = divmod(index, n)
    token = read(0, Window(row))
    check_values("token id", token, 0, rows - 1)
    return value_at(read(1, Window(int(token[0]) * n + column)), 0)


def _add_positions(shapes: Shapes, _: Attributes, index: int, read: Read) -> int:
    embedding.check_positions(shapes[0][0], shapes[1][0])
    x, table = read(0, Window(index)), read(1, Window(index))
    return value_at(embedding.add_positions(x[None], table[None]), 0, 0)


def _row_maximum(shapes: Shapes, _: Attributes, index: int, read: Read) -> int:
    n = shapes[0][1]
    row, factors = read(0, Window(index * n, n)), read(1, Window(0, n))
    return value_at(linear.row_maximum(row[None], factors), 0)


def _quantize(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    row, column = divmod(index, shapes[0][1])
    x, maximum, factor = read(0, Window(index)), read(1, Window(row)), read(2, Window(column))
    return value_at(linear.quantize(x[None], maximum, factor, *attributes), 0, 0)


def _matmul(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    n, k = shapes[1]
    row, column = divmod(index, n)
    a, b = read(0, Window(row * k, k)), read(1, Window(column * k, k))
    return value_at(linear.matmul(a[None], b[None], *attributes), 0, 0)


def _rescale(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    row, column = divmod(index, shapes[0][1])
    product, maximum = read(0, Window(index)), read(1, Window(row))
    multiplier, bias = read(2, Window(column)), read(3, Window(column))
    return value_at(linear.rescale(product[None], maximum, multiplier, bias, *attributes), 0, 0)


def _add(_: Shapes, __: Attributes, index: int, read: Read) -> int:
    return value_at(linear.add(read(0, Window(index)), read(1, Window(index))), 0)


def _layer_norm(shapes: Shapes, _: Attributes, index: int, read: Read) -> int:
    n = shapes[0][1]
    row, column = divmod(index, n)
    v, gamma, beta = read(0, Window(row * n, n)), read(1, Window(column)), read(2, Window(column))
    return value_at(norm.layer_norm(v[None], gamma, beta), 0, column)  # gamma and beta of one column, at that column


def _attention_scores(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    _, head_size, query_offset, key_offset, shift = attributes
    (m, query_width), (n, key_width) = shapes
    head, i, j = index // (m * n), index // n % m, index % n
    query = read(0, Window(i * query_width + query_offset + head * head_size, head_size))
    key = read(1, Window(j * key_width + key_offset + head * head_size, head_size))
    return value_at(attention.attention_scores(query[None], key[None], 1, head_size, 0, 0, shift), 0, 0, 0)


def _softmax_weights(shapes: Shapes, _: Attributes, index: int, read: Read) -> int:
    n = shapes[0][2]
    row, column = divmod(index, n)
    scores, table = read(0, Window(row * n, n)), read(1, Window(0, attention.WEIGHT_TABLE_SIZE))
    return value_at(attention.softmax_weights(scores[None, None], table), 0, 0, column)


def _attention_mix(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    head_size, value_offset = attributes
    heads, m, n = shapes[0]
    row, column = divmod(index, heads * head_size)
    weights = read(0, Window((column // head_size * m + row) * n, n))
    values = read(1, Window(value_offset + column, 1, n, shapes[1][1]))
    return value_at(attention.attention_mix(weights[None, None], values[:, None], 1, 0), 0, 0)


def _lookup(_: Shapes, __: Attributes, index: int, read: Read) -> int:
    x = read(0, Window(index))
    half = activation.TABLE_SIZE // 2
    place = min(max(int(x[0]) + half, 0), activation.TABLE_SIZE - 1)
    table = np.zeros(activation.TABLE_SIZE, np.int16)
    table[place] = read(1, Window(place))[0]
    return value_at(activation.lookup(x[None], table), 0, 0)


def _mean_pool(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    rows, n = shapes[0]
    return value_at(norm.mean_pool(read(0, Window(index, 1, rows, n))[:, None], *attributes), 0)


def _l2_normalize(shapes: Shapes, _: Attributes, index: int, read: Read) -> int:
    return value_at(norm.l2_normalize(read(0, Window(0, shapes[0][0]))), index)


RULES = (
    ElementRule("embedding", lambda _, __: (1, 1), _embedding),
    ElementRule("add_positions", lambda _, __: (1, 1), _add_positions),
    ElementRule("row_maximum", lambda shapes, _: (shapes[0][1], shapes[0][1]), _row_maximum),
    ElementRule("quantize", lambda _, __: (1, 1, 1), _quantize),
    ElementRule("matmul", lambda shapes, _: (shapes[0][1], shapes[0][1]), _matmul),
    ElementRule("rescale", lambda _, __: (1, 1, 1, 1), _rescale),
    ElementRule("add", lambda _, __: (1, 1), _add),
    ElementRule("layer_norm", lambda shapes, _: (shapes[0][1], 1, 1), _layer_norm),
    ElementRule("attention_scores", lambda _, attributes: (attributes[1], attributes[1]), _attention_scores),
    ElementRule("softmax_weights", lambda shapes, _: (shapes[0][2], attention.WEIGHT_TABLE_SIZE), _softmax_weights),
    ElementRule("attention_mix", lambda shapes, _: (shapes[0][2], shapes[0][2]), _attention_mix),
    ElementRule("lookup", lambda _, __: (1, 1), _lookup),
    ElementRule("mean_pool", lambda shapes, _: (shapes[0][0],), _mean_pool),
    ElementRule("l2_normalize", lambda shapes, _: (prod(shapes[0]),), _l2_normalize),
)
