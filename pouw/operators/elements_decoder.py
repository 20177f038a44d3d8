"""One element of the decoder's operators. What follows from a shape alone is read as nothing of that tensor.

`argmax` and `sample` need a whole row of scores: for vocabularies beyond 16,000 that is more than a leaf. `argmax` is
refuted by a witness instead; for `sample` there is none: `candidates` cuts longer rows into segments, `draw` chooses.
"""

import numpy as np

from pouw.operators import causal, decoder, sampling
from pouw.operators.attention import WEIGHT_TABLE_SIZE
from pouw.operators.element import Attributes, ElementRule, Read, Shapes, Window, WitnessRule, value_at

_NOTHING = Window(0, 0)


def _widen(_: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    return value_at(decoder.widen(read(0, Window(index)), *attributes), 0)


def _rescale_wide(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    row, column = divmod(index, shapes[0][1])
    product, maximum = read(0, Window(index)), read(1, Window(row))
    multiplier, bias = read(2, Window(column)), read(3, Window(column))
    return value_at(decoder.rescale_wide(product[None], maximum, multiplier, bias, *attributes), 0, 0)


def _accumulate(_: Shapes, __: Attributes, index: int, read: Read) -> int:
    return value_at(decoder.accumulate(read(0, Window(index)), read(1, Window(index))), 0)


def _rms_norm(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    n = shapes[0][1]
    row, column = divmod(index, n)
    v, gamma = read(0, Window(row * n, n)), read(1, Window(column))
    return value_at(decoder.rms_norm(v[None], gamma, *attributes), 0, column)  # gamma of one column, at that column


def _rope(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    heads, head_size, offset = attributes
    m, width = shapes[0]
    decoder.check_turns(m, shapes[1][0], shapes[2][0])
    row, column = divmod(index, heads * head_size)
    half = head_size // 2
    second, pair = divmod(column % head_size, half)
    x = read(0, Window(row * width + offset + column - column % head_size + pair, 1, 2, half))
    read(1, _NOTHING)
    table = read(2, Window((shapes[1][0] - m + row) * head_size + pair, 1, 2, half))
    return value_at(decoder.rope(x[None], np.zeros(1, np.int32), table[None], 1, 2, 0), 0, second)


def _transpose_columns(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    m, width = shapes[0]
    column, row = divmod(index, m)
    return value_at(read(0, Window(row * width + attributes[0] + column)), 0)


def _causal_scores(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    heads, kv_heads, head_size, shift = attributes
    m, n = shapes[0][0], shapes[1][0]
    causal.check_visible(m, n)  # the whole mask may be 2^31 entries
    head, i, j = index // (m * n), index // n % m, index % n
    query = read(0, Window((i * heads + head) * head_size, head_size))
    key = read(1, Window((j * kv_heads + head * kv_heads // heads) * head_size, head_size))
    if j > n - m + i:
        return 0
    return value_at(causal.causal_scores(query[None], key[None], 1, 1, head_size, shift), 0, 0, 0)


def _causal_softmax(shapes: Shapes, _: Attributes, index: int, read: Read) -> int:
    m, n = shapes[0][1:]
    causal.check_visible(m, n)  # the whole mask may be 2^31 entries
    row, column = divmod(index, n)
    scores, table = read(0, Window(row * n, n)), read(1, Window(0, WEIGHT_TABLE_SIZE))
    seen = n - m + row % m + 1
    if column >= seen:
        return 0
    return value_at(causal.causal_softmax(scores[None, None, :seen], table), 0, 0, column)


def _grouped_mix(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    kv_heads = attributes[0]
    heads, m, n = shapes[0]
    head_size = shapes[1][0] // kv_heads
    i, column = divmod(index, heads * head_size)
    head, d = divmod(column, head_size)
    weights = read(0, Window((head * m + i) * n, n))
    values = read(1, Window((head * kv_heads // heads * head_size + d) * n, n))
    return value_at(causal.grouped_mix(weights[None, None], values[None], 1), 0, 0)


def _gated_product(_: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    return value_at(decoder.gated_product(read(0, Window(index)), read(1, Window(index)), *attributes), 0)


def _last_row(shapes: Shapes, _: Attributes, index: int, read: Read) -> int:
    m, n = shapes[0]
    return value_at(read(0, Window((m - 1) * n + index)), 0)


def _argmax(shapes: Shapes, _: Attributes, index: int, read: Read) -> int:
    n = shapes[0][1]
    return value_at(sampling.argmax(read(0, Window(index * n, n))[None]), 0)


def _sample(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    m, n = shapes[0]
    logits, seed = read(0, Window(index * n, n)), read(1, Window(0))
    read(2, _NOTHING)
    table = read(3, Window(0, WEIGHT_TABLE_SIZE))
    return sampling.sample_row(logits, int(seed[0]), shapes[2][0] - m + index, table, *attributes)


def _candidates(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    n = shapes[0][1]
    temperature, segment, count = attributes
    row, place = divmod(index, -(-n // segment) * count)
    number, rank = divmod(place, count)
    first = number * segment
    # a short last segment is read with what stands before it: every element reads as much
    start = min(first, n - segment)
    entries = read(0, Window(row * n + start, segment))[first - start :]
    return value_at(sampling.candidates(entries[None], temperature, entries.size, count), 0, rank) - first


def _draw(shapes: Shapes, attributes: Attributes, index: int, read: Read) -> int:
    m, c = shapes[0]
    keys, seed = read(0, Window(index * c, c)), read(1, Window(0))
    read(2, _NOTHING)
    table = read(3, Window(0, WEIGHT_TABLE_SIZE))
    return sampling.draw_row(keys, int(seed[0]), shapes[2][0] - m + index, table, *attributes)


def refutes_argmax(shapes: Shapes, _: Attributes, index: int, claimed: int, witness: int, read: Read) -> bool:
    """Return whether entry `witness` of a row shows that `claimed` is not its first largest; reads two entries.

    A claim that is no entry of the row is a fault by itself; nothing is read.
    """
    n = shapes[0][1]
    if not 0 <= claimed < n:
        return True
    if not 0 <= witness < n:
        return False
    best, other = read(0, Window(index * n + claimed)), read(0, Window(index * n + witness))
    return bool(other[0] > best[0] or (other[0] == best[0] and witness < claimed))


RULES = (
    ElementRule("widen", lambda _, __: (1,), _widen),
    ElementRule("rescale_wide", lambda _, __: (1, 1, 1, 1), _rescale_wide),
    ElementRule("accumulate", lambda _, __: (1, 1), _accumulate),
    ElementRule("rms_norm", lambda shapes, _: (shapes[0][1], 1), _rms_norm),
    ElementRule("rope", lambda _, __: (2, 0, 2), _rope),
    ElementRule("transpose_columns", lambda _, __: (1,), _transpose_columns),
    ElementRule("causal_scores", lambda _, attributes: (attributes[2], attributes[2]), _causal_scores),
    ElementRule("causal_softmax", lambda shapes, _: (shapes[0][2], WEIGHT_TABLE_SIZE), _causal_softmax),
    ElementRule("grouped_mix", lambda shapes, _: (shapes[0][2], shapes[0][2]), _grouped_mix),
    ElementRule("gated_product", lambda _, __: (1, 1), _gated_product),
    ElementRule("last_row", lambda _, __: (1,), _last_row),
    ElementRule("argmax", lambda shapes, _: (shapes[0][1],), _argmax),
    ElementRule("sample", lambda shapes, _: (shapes[0][1], 1, 0, WEIGHT_TABLE_SIZE), _sample),
    ElementRule("candidates", lambda _, attributes: (attributes[1],), _candidates),
    ElementRule("draw", lambda shapes, _: (shapes[0][1], 1, 0, WEIGHT_TABLE_SIZE), _draw),
)

WITNESS_RULES = (WitnessRule("argmax", lambda _, __: (2,), refutes_argmax, lambda right, _: right),)
