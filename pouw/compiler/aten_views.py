"""What ATen's views mean: they move columns, and cost nothing in the graph."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from pouw.compiler.translation import Ids, Matrix, RowTable, Scores, Translation, float32


def select(work: Translation, node: Any, x: Any, dim: int, index: Any) -> Any:
    """One place of an axis: the first or the last row, or a part of the columns."""
    if isinstance(x, RowTable):
        return x
    if not isinstance(x, Matrix):
        raise work.refuse("select", "takes a value that is no matrix of the module's")
    axis = dim % (x.columns.ndim + (x.rows is not None))
    if axis == x.rows:
        if index not in {0, -1}:
            raise work.refuse("select", f"row {index}: only the first and the last are known")
        source = work.whole(x, "select")
        made = work.add("first" if index == 0 else "last", work.widths[source], source, single=True)
        return work.like(made, node.meta["val"].shape, single=True)
    place, rows = _column_axis(x, axis)
    columns = np.asarray(x.columns.take(int(index), axis=place))
    return Matrix(x.node, columns, rows - (rows > axis) if rows is not None else None)


def _column_axis(x: Matrix, axis: int) -> tuple[int, int | None]:
    return axis - (x.rows is not None and axis > x.rows), x.rows


def take_slice(
    work: Translation, node: Any, x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    """A range of an axis."""
    if isinstance(x, work.torch.Tensor):
        axes = [size for size in x.shape if size != 1]
        if start not in {None, 0} or step != 1 or x.shape[dim] not in axes[:1]:
            raise work.refuse("slice", "of positions that do not begin with the first")
        table = x.reshape(axes)
        work.rows_max = min(work.rows_max, len(table))
        return RowTable(table)
    if isinstance(x, (Ids, RowTable)) and start in {None, 0} and step == 1:
        return x
    if not isinstance(x, Matrix):
        raise work.refuse("slice", "takes a value that is no matrix of the module's")
    axis = dim % (x.columns.ndim + (x.rows is not None))
    if axis == x.rows:
        if start in {None, 0} and step == 1 and work.is_rows(node.meta["val"].shape[axis], x.node):
            return x
        count = work.row_counts[x.node]
        chosen = range(count)[slice(start, end, step)] if count is not None else range(0)
        if not len(chosen):
            raise work.refuse("slice", "of rows: only the first row alone is known where their number may vary")
        source = work.whole(x, "slice")
        arrays = {"ids": np.array(chosen, dtype=np.int32)}
        made = work.add("gather", work.widths[source], source, rows=len(chosen), arrays=arrays)
        return work.like(made, node.meta["val"].shape, single=False)
    place, rows = _column_axis(x, axis)
    index = (slice(None),) * place + (slice(start, end, step),)
    return Matrix(x.node, x.columns[index], rows)


def split(work: Translation, node: Any, x: Any, *_: Any, **options: Any) -> list[Any]:
    """Parts of an axis (chunk, split, unbind)."""
    dim = options.get("dim", node.args[2] if len(node.args) > 2 else 0)
    shapes = [part.shape for part in node.meta["val"]]
    if not isinstance(x, Matrix):
        raise work.refuse("split", "takes a value that is no matrix of the module's")
    axis = dim % (x.columns.ndim + (x.rows is not None))
    if axis == x.rows:
        raise work.refuse("split", "splits rows")
    place, rows = _column_axis(x, axis)
    sizes = [int(shape[axis]) for shape in shapes]
    parts = np.split(x.columns, np.cumsum(sizes)[:-1].tolist(), axis=place)
    return [Matrix(x.node, part, rows) for part in parts]


def unbind(work: Translation, node: Any, x: Any, dim: int = 0) -> list[Any]:
    """Every place of an axis."""
    return [select(work, _Nothing, x, dim, index) for index in range(len(node.meta["val"]))]


class _Nothing:
    meta: Mapping[str, Any] = {}


def reshape(work: Translation, node: Any, x: Any, *_: Any, **__: Any) -> Any:
    """The same values in another shape; rows stay rows."""
    if not isinstance(x, Matrix):
        if isinstance(x, Scores):
            raise work.refuse("view", "of attention scores")
        return x
    sizes = list(node.meta["val"].shape)
    if x.rows is None:
        return Matrix(x.node, x.columns.reshape(sizes), None)
    before = prod(x.columns.shape[: x.rows])
    for axis, size in enumerate(sizes):
        rest = sizes[:axis] + sizes[axis + 1 :]
        fixed = not any(isinstance(other, work.torch.SymInt) for other in rest)
        if work.is_rows(size, x.node) and fixed and prod(sizes[:axis]) == before and prod(rest) == x.columns.size:
            return Matrix(x.node, x.columns.reshape(rest), axis)
    raise work.refuse("view", f"to {sizes} mixes rows with columns")


def permute(work: Translation, _node: Any, x: Any, order: Any) -> Any:
    """Axes in another order."""
    if not isinstance(x, Matrix):
        return x if isinstance(x, (Ids, RowTable)) else _refuse_view(work, "permute")
    rank = x.columns.ndim + (x.rows is not None)
    order = [axis % rank for axis in order]
    if x.rows is None:
        return Matrix(x.node, x.columns.transpose(order), None)
    places = [axis - (axis > x.rows) for axis in order if axis != x.rows]
    return Matrix(x.node, x.columns.transpose(places), order.index(x.rows))


def transpose(work: Translation, node: Any, x: Any, first: int = 0, second: int = 1) -> Any:
    """Two axes exchanged."""
    if not isinstance(x, Matrix):
        return x if isinstance(x, (Ids, RowTable)) else _refuse_view(work, "transpose")
    rank = x.columns.ndim + (x.rows is not None)
    order = list(range(rank))
    order[first % rank], order[second % rank] = order[second % rank], order[first % rank]
    return permute(work, node, x, order)


def _refuse_view(work: Translation, operator: str) -> Any:
    raise work.refuse(operator, "takes a value that is no matrix of the module's")


def _is_empty(work: Translation, part: Any) -> bool:
    if isinstance(part, Matrix):
        return part.columns.size == 0
    return isinstance(part, work.torch.Tensor) and part.numel() == 0  # what no token has been cached in yet


def concatenate(work: Translation, node: Any, parts: Any, dim: int = 0) -> Matrix:
    """Constant rows before a matrix: a class token. What is empty is left out."""
    parts = [part for part in parts if not _is_empty(work, part)]
    if len(parts) == 1 and isinstance(parts[0], Matrix):
        return parts[0]
    *before, x = parts
    if not isinstance(x, Matrix) or not before or not all(isinstance(part, work.torch.Tensor) for part in before):
        raise work.refuse("cat", "only constant rows before a matrix are known")
    source = work.whole(x, "cat")
    count, width = work.row_counts[source], work.widths[source]
    if x.rows is None or dim % (x.columns.ndim + 1) != x.rows or count is None:
        raise work.refuse("cat", "of columns, or of rows whose number may vary")
    row = np.concatenate([float32(part).reshape(-1, width) for part in before])  # (constant rows, width)
    rows = count + len(row)
    made = work.add("concat", width, source, rows=rows, arrays={"row": row})
    return work.like(made, node.meta["val"].shape, single=False)


def same(work: Translation, node: Any, x: Any, *_: Any, **__: Any) -> Any:
    """What changes no value: contiguous, copies, casts between floats, an expansion to the same size."""
    result = node.meta["val"]
    if isinstance(x, (Matrix, Scores)):
        if not result.dtype.is_floating_point:
            raise work.refuse("to", f"casts to {result.dtype}")
        if isinstance(x, Matrix):
            shape = list(x.columns.shape)
            if x.rows is not None:
                shape.insert(x.rows, next((size for size in result.shape if work.is_rows(size, x.node)), 0))
            fixed = [
                (axis, a, b) for axis, (a, b) in enumerate(zip(shape, result.shape, strict=False)) if axis != x.rows
            ]
            if len(shape) == result.dim() and not any(a not in (1, b) for _, a, b in fixed) and x.rows is not None:
                # entries of an axis of columns that stand several times: heads that share their keys
                wide = [int(size) for axis, size in enumerate(result.shape) if axis != x.rows]
                return Matrix(x.node, np.broadcast_to(x.columns, wide), x.rows)
            if [size for size in result.shape if size != 1] != [size for size in shape if size != 1]:
                raise work.refuse("expand", f"repeats values, to {list(result.shape)}")
            if len(shape) != result.dim():
                return reshape(work, node, x)
    return x
