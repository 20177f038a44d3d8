"""Attention masks of an exported module: tables rows x rows that no input decides, made for the most rows there are.

A mask for n rows is read off the table's first n rows and columns; what a table hides has to be causal, or nothing.
"""

from collections.abc import Mapping
from math import prod
from typing import Any

from pouw.compiler.translation import Ids, Mask, Matrix, RowTable, Translation

FULL, CAUSAL = "full", "causal"
HIDDEN = -1e4  # added to a score, it makes a weight of less than 2^-32
SHAPE_ONLY = ("ones_like", "zeros_like", "full_like", "new_ones", "new_zeros", "new_full", "new_empty", "empty_like")
"""Read no value of their first operand."""


def is_sized(work: Translation, node: Any, name: str, arguments: Any, options: Any) -> bool:
    """Whether a node makes a table that sizes decide, and no input's values: at most one axis of rows, or two last."""
    value = node.meta.get("val")
    if not isinstance(value, work.torch.Tensor) or name == "embedding":
        return False
    if name == "slice" and isinstance(arguments[0], work.torch.Tensor):
        return False  # which cuts a table to as many rows as there are, or the rows to the table
    axes = _axes(work, value)
    if len(axes) > 1 and axes != [value.dim() - 2, value.dim() - 1]:
        return False
    rest = arguments[1:] if name in SHAPE_ONLY else arguments
    return _of_sizes(work, rest) and _of_sizes(work, options)


def _axes(work: Translation, value: Any) -> list[int]:
    return [axis for axis, size in enumerate(value.shape) if isinstance(size, work.torch.SymInt)]


def sized(work: Translation, node: Any, name: str) -> Any:
    """Return such a table, for the most rows that the module takes: a RowTable, a Mask, or a constant."""
    axes = _axes(work, node.meta["val"])
    made = _compute(work, node, name)
    if len(axes) == 2:
        return Mask(made)
    if not axes:
        most, work.rows_max = work.rows_max, max(1, work.rows_max - 1)
        other = _compute(work, node, name)
        work.rows_max = most
        if not work.torch.equal(made, other):
            raise work.refuse(name, "a number that depends on how many rows there are")
        return made
    size = node.meta["val"].shape[axes[0]]
    if made.shape[axes[0]] < _size(work, size):
        work.rows_max = min(work.rows_max, int(made.shape[axes[0]]))
    table = made.movedim(axes[0], 0)
    return RowTable(table.reshape([len(table), *[side for side in table.shape[1:] if side != 1]]))


def _size(work: Translation, size: Any) -> int:
    """A size of the exported module, for the most rows."""
    if not isinstance(size, work.torch.SymInt):
        return int(size)
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, work.rows_max)))


def _of_sizes(work: Translation, given: Any) -> bool:
    if isinstance(given, Mapping):
        return all(_of_sizes(work, value) for value in given.values())
    if isinstance(given, (list, tuple)):
        return all(_of_sizes(work, value) for value in given)
    return isinstance(given, (Mask, RowTable, work.torch.SymInt)) or work.is_constant(given)


def _compute(work: Translation, node: Any, name: str) -> Any:
    for given in node.all_input_nodes:
        value = work.values.get(given)
        if isinstance(value, (Mask, RowTable)):
            length = len(value.table) if isinstance(value, RowTable) else int(value.table.shape[-1])
            size = given.meta["val"].shape[_axes(work, given.meta["val"])[-1]]
            if length < _size(work, size):
                work.rows_max = min(work.rows_max, length)

    def at(given: Any) -> Any:
        if isinstance(given, Mapping):
            return {name: at(value) for name, value in given.items()}
        if isinstance(given, (list, tuple)):
            return [at(value) for value in given]
        value = work.values[given] if isinstance(given, work.torch.fx.Node) else given
        if name in SHAPE_ONLY and isinstance(value, (Ids, Matrix)):
            made = given.meta["val"]
            return work.torch.zeros([_size(work, size) for size in made.shape], dtype=made.dtype)
        if isinstance(value, Mask):
            down, across = (_size(work, size) for size in given.meta["val"].shape[-2:])
            return value.table[..., :down, :across].clone()  # some operators write into it
        if isinstance(value, RowTable):
            return _row_table(work, given, value)
        return _size(work, value) if isinstance(value, work.torch.SymInt) else value

    with work.torch.no_grad():
        return node.target(*at(node.args), **at(node.kwargs))


def _row_table(work: Translation, node: Any, value: RowTable) -> Any:
    """A table of rows in the axes that the exported module gives it."""
    shape = node.meta["val"].shape
    axis = _axes(work, node.meta["val"])[0]
    table = value.table[: _size(work, shape[axis])]
    rest = [_size(work, size) for place, size in enumerate(shape) if place != axis]
    if prod(rest) != prod(table.shape[1:]) and rest:  # a square of which the columns are not cut yet
        rest[-1] = table.shape[-1]
    return table.reshape([len(table), *rest]).movedim(0, axis)


def kind_of(work: Translation, mask: Any) -> str | None:
    """Return what a mask shows: FULL, CAUSAL, or None for anything else, and for what an input decides."""
    table = mask.table if isinstance(mask, Mask) else mask
    if not isinstance(table, work.torch.Tensor):
        return None
    shown = table if table.dtype == work.torch.bool else table == 0
    hidden = ~table if table.dtype == work.torch.bool else table <= HIDDEN
    if not bool((shown | hidden).all()):
        return None
    if bool(shown.all()):
        return FULL
    if table.dim() < 2 or table.shape[-1] != table.shape[-2]:
        return None
    causal = work.torch.ones(table.shape[-2:], dtype=work.torch.bool).tril()
    return CAUSAL if bool((shown == causal).all()) else None
