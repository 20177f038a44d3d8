"""What a graph with a fixed number of rows can do besides: rows by number, columns apart and side by side, group norms.

No operator of its own: a row of an embedding may be a row of any matrix, so constant ids gather; a matrix turned and
turned back is a matrix of which rows are columns; an attention's scores are products of int16 by heads, so a kernel for
each channel is one head.
"""

from math import ceil, log2

import numpy as np
from numpy.typing import NDArray

from pouw.compiler.assemble import Assembly, Handle
from pouw.compiler.program import Node, UnmappableOperator
from pouw.operators.arithmetic import INT16_MAX, INT32_MAX
from pouw.operators.decoder import RMS_WIDTH_MAX
from pouw.operators.norm import NORM_WIDTH_MAX
from pouw.operators.rules_encoder import HEADS_MAX, WIDTH_MAX

Float64 = NDArray[np.float64]
ONE = 2**14  # the row from which an offset is taken
NORMED_SCALE = 2.0**11  # a normed value may be 16 deviations
CHUNK_BITS, SHARE_BITS = 8, 12
GAMMA_ONE = 2**12
BLEND_BITS, BLEND_KEPT = 15, 7


def gather_rows(work: Assembly, rows: Handle, ids: NDArray[np.integer]) -> Handle:
    """Return rows by number, int16[len(ids), n]; -1 is a row of zeros."""
    count, width = work.type_of(rows).at({})
    if (ids < 0).any():
        zeros = work.constant(np.zeros((1, width), dtype=np.int16))
        rows = work.add("concat_rows", rows, zeros)
    places = np.where(ids < 0, count, ids).astype(np.int32)
    return work.add("embedding", work.constant(places), rows)


def turn(work: Assembly, rows: Handle) -> Handle:
    """Return int16[m, n] as int16[n, m]."""
    return work.add("transpose_columns", rows, attributes=(0, work.width(rows)))


def shaped(work: Assembly, x: Handle, *sizes: int) -> Handle:
    """Return the same entries as a matrix."""
    if work.type_of(x).shape == sizes:
        return x
    return work.add("reshape", x, attributes=(*sizes, 0))


def some_columns(work: Assembly, rows: Handle, first: int, count: int) -> Handle:
    """Return columns first .. first + count."""
    return turn(work, work.add("transpose_columns", rows, attributes=(first, count)))


def join_columns(work: Assembly, parts: list[Handle]) -> Handle:
    """Return matrices side by side."""
    joined = turn(work, parts[0])
    for part in parts[1:]:
        joined = work.add("concat_rows", joined, turn(work, part))
    return turn(work, joined)


def depthwise(
    work: Assembly, rows: Handle, scale: float, node: Node, largest: NDArray[np.floating], wanted: float
) -> Handle:
    """Return sum over taps of row * weight, each column by itself, plus its offset: products of 16 bits, not of 8.

    A further tap sees a row of ones; its weight is the offset.
    """
    ids = node.arrays["ids"]  # (rows, taps)
    weight = np.concatenate([node.arrays["weight"], node.arrays["bias"][:, None] * (scale / ONE)], axis=1)
    weight = weight.astype(np.float64)  # (columns, taps + 1)
    count, width = work.type_of(rows).at({})
    peaks = np.abs(weight).max(axis=1)  # (columns,)
    units = INT16_MAX / np.maximum(peaks, max(float(peaks.max()) * 1e-6, 1e-30))
    keys = np.rint(weight * units[:, None]).astype(np.int16)  # (columns, taps + 1)
    reach = float((largest.astype(np.float64) * scale * units).max()) * 2
    shift = min(40, max(1, ceil(log2(max(reach, 1.0) / INT32_MAX))))
    ratio = wanted / scale / units * 2.0**shift
    finer = min(62, max(1, int(log2(2**20 / float(ratio.max())))))
    factors = np.rint(ratio * 2.0**finer).astype(np.int32)
    one = np.zeros((2, width), dtype=np.int16)
    one[1] = ONE
    table = work.add("concat_rows", rows, work.constant(one))
    places = np.concatenate([np.where(ids < 0, count, ids), np.full((len(ids), 1), count + 1)], axis=1)
    most = max(1, min(WIDTH_MAX // width, len(ids)))
    made = [
        _depthwise_part(work, table, places[start : start + most], keys, (factors, shift, finer))
        for start in range(0, len(ids), most)
    ]
    joined = made[0]
    for part in made[1:]:
        joined = work.add("concat_rows", joined, part)
    return joined


def _depthwise_part(
    work: Assembly,
    table: Handle,
    places: NDArray[np.integer],
    keys: NDArray[np.int16],
    numbers: tuple[NDArray[np.int32], int, int],
) -> Handle:
    factors, shift, finer = numbers
    (count, taps), width = places.shape, len(keys)
    seen = work.add("embedding", work.constant(places.T.reshape(-1).astype(np.int32)), table)  # (taps * rows, columns)
    seen = turn(work, shaped(work, seen, taps, count * width))  # (rows * columns, taps)
    seen = shaped(work, seen, count, width * taps)
    kernel = work.constant(keys.reshape(1, -1))
    made: Handle | None = None
    for first in range(0, width, HEADS_MAX):
        heads = min(HEADS_MAX, width - first)
        attributes = (heads, taps, first * taps, first * taps, shift)
        scores = shaped(work, work.add("attention_scores", seen, kernel, attributes=attributes), heads, count)
        each = work.constant(factors[first : first + heads])
        ones = work.constant(np.ones(count, dtype=np.int32))
        nothing = work.constant(np.zeros(count, dtype=np.int32))
        part = work.add("rescale", scores, each, ones, nothing, attributes=(finer, INT16_MAX))
        made = part if made is None else work.add("concat_rows", made, part)
    assert made is not None  # noqa: S101
    return turn(work, made)


def sum_of_rows(work: Assembly, rows: Handle, scale: float, node: Node) -> tuple[Handle, float]:
    """Return sums of weighted rows as int32, and their scale: what stretches an image."""
    ids, weight = node.arrays["ids"], node.arrays["weight"].astype(np.float64)  # (rows, taps) each
    width = work.width(rows)
    ones = work.constant(np.ones(width, dtype=np.int32))
    nothing = work.constant(np.zeros(width, dtype=np.int32))
    total: Handle | None = None
    for tap in range(ids.shape[1]):
        seen = gather_rows(work, rows, ids[:, tap])
        share = work.constant(np.rint(weight[:, tap] * 2**BLEND_BITS).astype(np.int32))
        doubled = work.add("add", seen, seen)
        part = work.add("rescale_wide", doubled, share, ones, nothing, attributes=(BLEND_BITS + 1 - BLEND_KEPT,))
        total = part if total is None else work.add("accumulate", total, part)
    assert total is not None  # noqa: S101
    return total, scale * 2.0**BLEND_KEPT


def group_norm(work: Assembly, rows: Handle, scale: float, node: Node) -> tuple[Handle, float]:
    """Return (x - mean) / deviation over groups of columns and all rows, and its scale.

    Raises:
        UnmappableOperator: a group is larger than can be cut into rows of an RMS norm.
    """
    groups, epsilon = int(node.numbers["groups"]), float(node.numbers["epsilon"])
    count, width = work.type_of(rows).at({})
    size = count * width // groups
    flat = shaped(work, turn(work, rows), groups, size)
    if size <= NORM_WIDTH_MAX:
        gamma = work.constant(np.full(size, int(GAMMA_ONE * NORMED_SCALE / 2**10), dtype=np.int32))
        beta = work.constant(np.zeros(size, dtype=np.int32))
        normed = work.add("layer_norm", work.add("add", flat, flat), gamma, beta)
    else:
        chunks = next((n for n in range(1, 65) if size % n == 0 and size // n <= RMS_WIDTH_MAX), 0)
        if not chunks or size > WIDTH_MAX:
            raise UnmappableOperator(
                "group_norm", f"groups of {size} values: no whole parts of at most {RMS_WIDTH_MAX}, 64 of them", ""
            )
        most = max(1, min(WIDTH_MAX // size, HEADS_MAX // chunks))
        normed = _normed_groups(work, flat, (0, min(most, groups), chunks), scale, epsilon)
        for first in range(most, groups, most):
            part = _normed_groups(work, flat, (first, min(most, groups - first), chunks), scale, epsilon)
            normed = work.add("concat_rows", normed, part)
    return turn(work, shaped(work, normed, width, count)), NORMED_SCALE


def _normed_groups(work: Assembly, flat: Handle, cut: tuple[int, int, int], scale: float, epsilon: float) -> Handle:
    """Some groups, each cut into chunks: less their mean, over the root of their mean square."""
    first, groups, chunks = cut
    all_groups, size = work.type_of(flat).at({})
    if groups != all_groups:
        flat = work.add("slice_rows", flat, attributes=(first, groups))
    count, width = groups * chunks, size // chunks
    parts = shaped(work, flat, count, width)
    centred = work.add("add", parts, _less_mean(work, parts, groups, chunks))  # int32 (count, width)
    ones = work.constant(np.full(width, GAMMA_ONE, dtype=np.int32))
    if chunks == 1:
        inside = round(epsilon * width * scale * scale)
        return work.add("rms_norm", centred, ones, attributes=(inside, 26 - int(log2(NORMED_SCALE))))
    # of each chunk its own norm, then the chunks' norms by each other
    own = work.add("rms_norm", centred, ones, attributes=(0, 26 - CHUNK_BITS))
    none = work.constant(np.zeros(width, dtype=np.int32))
    one = work.constant(np.ones(width, dtype=np.int32))
    halves = work.constant(np.full(count, 2, dtype=np.int32))
    narrow = work.add("rescale", centred, halves, one, none, attributes=(1, INT16_MAX))
    shift = max(1, ceil(log2(width)) + 15 + CHUNK_BITS - 24)
    lengths = work.add(
        "attention_scores",
        shaped(work, narrow, 1, count * width),
        shaped(work, own, 1, count * width),
        attributes=(count, width, 0, 0, shift),
    )
    even = work.constant(np.full(chunks, GAMMA_ONE, dtype=np.int32))
    shares = work.add("rms_norm", shaped(work, lengths, groups, chunks), even, attributes=(0, 26 - SHARE_BITS))
    factor = work.constant(np.ones(1, dtype=np.int16))
    each = work.add("row_maximum", shaped(work, shares, count, 1), factor)
    kept = CHUNK_BITS + SHARE_BITS + 1 - int(log2(NORMED_SCALE))
    doubled = work.add("add", own, own)
    return shaped(work, work.add("rescale", doubled, each, one, none, attributes=(kept, INT16_MAX)), groups, size)


def _less_mean(work: Assembly, parts: Handle, groups: int, chunks: int) -> Handle:
    """Return what a group's mean is below zero, in each of its places."""
    count, width = work.type_of(parts).at({})
    mean = work.add("grouped_mix", work.constant(np.ones((1, 1, width), dtype=np.int16)), parts, attributes=(1,))
    if chunks > 1:
        even = work.constant(np.ones((1, 1, chunks), dtype=np.int16))
        mean = work.add("grouped_mix", even, shaped(work, mean, groups, chunks), attributes=(1,))
        mean = gather_rows(work, shaped(work, mean, groups, 1), np.repeat(np.arange(groups), chunks))
        mean = shaped(work, mean, 1, count)
    minus = work.constant(np.full(count, -1, dtype=np.int32))
    none = work.constant(np.zeros(count, dtype=np.int32))
    doubled = work.add("add", mean, mean)
    one = work.constant(np.ones(1, dtype=np.int32))
    negative = work.add("rescale", doubled, one, minus, none, attributes=(1, INT16_MAX))
    return turn(work, gather_rows(work, negative, np.zeros(width, dtype=np.int32)))
