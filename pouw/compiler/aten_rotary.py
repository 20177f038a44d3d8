"""Rotary positions and RMS norms as modules write them out: several of ATen's operators are one of the graph's."""

from math import prod
from typing import Any

import numpy as np

from pouw.compiler.program import Float
from pouw.compiler.translation import (
    ByPosition,
    Halved,
    Matrix,
    MeanSquare,
    Negated,
    RowTable,
    Translation,
    float32,
)

TOLERANCE = 1e-4


def negate(work: Translation, x: Matrix) -> Negated | None:
    """Return a part of a value negated, where it is half of what positions turn."""
    return Negated(x) if x.columns.size != work.widths[x.node] or x.columns.ndim > 2 else None


def halves(work: Translation, parts: Any, dim: int) -> Halved | None:
    """Return cat((-second, first)) of one axis' two halves; None for anything else."""
    if len(parts) != 2 or not isinstance(parts[0], Negated) or not isinstance(parts[1], Matrix):
        return None
    second, first = parts[0].matrix, parts[1]
    rank = first.columns.ndim + (first.rows is not None)
    if second.node != first.node or second.rows != first.rows or dim not in {-1, rank - 1}:
        raise work.refuse("cat", "of a negated value: only rotary positions are known")
    return Halved(Matrix(first.node, np.concatenate([first.columns, second.columns], axis=-1), first.rows))


def by_position(x: Matrix | Halved, y: RowTable) -> ByPosition:
    """Return a matrix times a table of rows."""
    if isinstance(x, Halved):
        return ByPosition(x.matrix, y.table, halved=True)
    return ByPosition(x, y.table, halved=False)


def turn(work: Translation, node: Any, x: ByPosition, y: ByPosition) -> Matrix:
    """Return x * cosines + halves * sines: each pair turned by the angle of its position."""
    straight, crossed = (y, x) if x.halved else (x, y)
    matrix = straight.matrix
    same = matrix.node == crossed.matrix.node and np.array_equal(matrix.columns, crossed.matrix.columns)
    if straight.halved or not crossed.halved or not same:
        raise work.refuse("add", "of two products with positions: only rotary positions are known")
    size = matrix.columns.shape[-1]
    cosines, sines = (_half_table(work, part.table, size) for part in (straight, crossed))
    width = matrix.columns.size
    if matrix.rows is None or prod(matrix.columns.shape[matrix.rows :]) % size:
        raise work.refuse("add", "rotary positions of a single row")
    source = work.whole(Matrix(matrix.node, matrix.columns.reshape(1, width), 0), "rotary positions")
    numbers = {"heads": width // size, "head_size": size}
    rows = min(len(cosines), work.rows_max)
    table = np.concatenate([cosines, sines], axis=1)[:rows]  # (rows, size)
    made = work.add("rope", width, source, arrays={"table": table}, numbers=numbers)
    columns = np.arange(width).reshape(matrix.columns.shape)
    del node
    return Matrix(made, columns, matrix.rows)


def _half_table(work: Translation, table: Any, size: int) -> Float:
    found = float32(table)
    first, second = found[:, : size // 2], found[:, size // 2 :]
    if found.shape[-1] != size or size % 2 or np.abs(first - second).max() > TOLERANCE:
        raise work.refuse("mul", f"a table {list(found.shape)} of positions for heads of {size}: not rotary")
    return first


def mean_square(work: Translation, x: Any, axes: list[int]) -> MeanSquare | None:
    """Return the mean of squares over the last axis; None where something else is averaged."""
    if not isinstance(x, Matrix) or work.nodes[x.node].kind != "activation":
        return None
    square = work.nodes[x.node]
    rank = x.columns.ndim + (x.rows is not None)
    if square.function != "square" or axes not in ([-1], [rank - 1]) or x.rows == rank - 1:
        return None
    if x.columns.shape[-1] != work.widths[x.node]:
        heads = x.columns.size // x.columns.shape[-1]
        raise work.refuse("mean", f"a norm of each of {heads} heads is known in the folders of decoders only")
    return MeanSquare(Matrix(square.sources[0], np.arange(work.widths[square.sources[0]]), x.rows))


def rms_norm(work: Translation, node: Any, x: Any, root: MeanSquare) -> Matrix:
    """Return x / root of its mean square."""
    source = work.whole(x, "rms_norm")
    if not root.inverse or source != root.matrix.node:
        raise work.refuse("mul", "by a mean of squares: only an RMS norm of the value itself is known")
    return rms(work, node, source, np.ones(work.widths[source], dtype=np.float32), root.epsilon)


def rms(work: Translation, node: Any, source: int, gamma: Float, epsilon: float) -> Matrix:
    """Return the node of an RMS norm."""
    single = work.single[source]
    arrays, numbers = {"gamma": gamma}, {"epsilon": epsilon}
    made = work.add("rms", work.widths[source], source, single=single, arrays=arrays, numbers=numbers)
    return work.like(made, node.meta["val"].shape, single=single)


def root_inverse(work: Translation, _node: Any, x: Any) -> MeanSquare:
    """Return one over the root of a mean of squares."""
    if not isinstance(x, MeanSquare):
        raise work.refuse("rsqrt", "only inside of an RMS norm")
    return MeanSquare(x.matrix, x.epsilon, inverse=True)


def own_rms_norm(
    work: Translation, node: Any, x: Any, shape: Any, weight: Any = None, epsilon: float | None = None
) -> Matrix:
    """RMS norm over the last axis, as one operator."""
    source = work.whole(x, "rms_norm")
    width = work.widths[source]
    if list(shape) != [width]:
        raise work.refuse("rms_norm", f"normalises {list(shape)}, only the last axis {[width]} is known")
    gamma = np.ones(width, dtype=np.float32) if weight is None else float32(weight)
    return rms(work, node, source, gamma, 1.2e-7 if epsilon is None else float(epsilon))


def turned_in_part(work: Translation, parts: Any, dim: int) -> Matrix | None:
    """Return cat((turned, rest)) of heads of which positions turn the first entries; None for anything else.

    Entries are put in the order in which the operator pairs them, and the rest is turned by nothing.
    """
    if len(parts) != 2 or not all(isinstance(part, Matrix) for part in parts):
        return None
    turned, rest = parts
    rope, below = work.nodes[turned.node], work.nodes[rest.node]
    rank = turned.columns.ndim + (turned.rows is not None)
    if rope.kind != "rope" or below.kind != "linear" or dim not in {-1, rank - 1} or turned.rows != rest.rows:
        return None
    own = work.nodes[rope.sources[0]]
    size, more = turned.columns.shape[-1], rest.columns.shape[-1]
    if own.kind != "linear" or own.sources != below.sources or more % 2 or turned.rows is None:
        raise work.refuse("cat", "of what positions turn and a rest that is no part of the same layer")
    heads = turned.columns.size // size
    places = rest.columns.reshape(heads, more)
    half = (size + more) // 2
    order = np.concatenate(  # for each entry as the module has it: where it stands among the pairs
        [
            np.arange(size // 2),
            half + np.arange(size // 2),
            size // 2 + np.arange(more // 2),
            half + size // 2 + np.arange(more // 2),
        ]
    )

    def rows(name: str) -> Float:
        first = own.arrays[name].reshape(heads, size, *own.arrays[name].shape[1:])
        second = below.arrays[name][places]
        both = np.concatenate([first, second], axis=1)
        paired = np.empty_like(both)
        paired[:, order] = both
        return np.ascontiguousarray(paired).reshape(heads * (size + more), *both.shape[2:])

    width = heads * (size + more)
    arrays = {"weight": rows("weight"), "bias": rows("bias")}
    source = work.add("linear", width, *own.sources, arrays=arrays)
    cosines, sines = np.split(rope.arrays["table"], 2, axis=1)
    still = np.ones((len(cosines), more // 2), dtype=np.float32)
    table = np.concatenate([cosines, still, sines, 0 * still], axis=1)
    numbers = {"heads": heads, "head_size": size + more}
    made = work.add("rope", width, source, arrays={"table": table}, numbers=numbers)
    columns = np.arange(heads)[:, None] * (size + more) + order
    return Matrix(made, columns.reshape(*turned.columns.shape[:-1], size + more), turned.rows)


def in_pairs(work: Translation, queries: Matrix, keys: Matrix) -> tuple[Matrix, Matrix]:
    """Return queries and keys with their heads' entries in order, where both have one order: sums do not see it."""
    found = []
    for part in (queries, keys):
        size = part.columns.shape[-1]
        heads = part.columns.reshape(-1, size)
        within = heads - heads.min(axis=1, keepdims=True)
        if work.nodes[part.node].kind != "rope" or not (within == within[0]).all():
            return queries, keys
        found.append((within[0], heads.min(axis=1)[:, None] + np.arange(size), part))
    if not np.array_equal(found[0][0], found[1][0]):
        return queries, keys
    made = [Matrix(part.node, heads.reshape(part.columns.shape), part.rows) for _, heads, part in found]
    return made[0], made[1]
