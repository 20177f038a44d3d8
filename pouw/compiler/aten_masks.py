"""Attention masks of an exported module: tables rows x rows that no input decides, made for the most rows there are.

A mask for n rows is read off the table's first n rows and columns; what a table hides has to be causal, or nothing.
"""

from collections.abc import Mapping
from typing import Any

from pouw.compiler.translation import Mask, RowTable, Translation

FULL, CAUSAL = "full", "causal"
HIDDEN = -1e4  # added to a score, it makes a weight of less than 2^-32


def is_mask(work: Translation, node: Any, arguments: Any, options: Any) -> bool:
    """Whether a node makes a mask: its last two axes are rows, and only tables, sizes and constants go in."""
    value = node.meta.get("val")
    if not isinstance(value, work.torch.Tensor):
        return False
    axes = [axis for axis, size in enumerate(value.shape) if isinstance(size, work.torch.SymInt)]
    rank = value.dim()
    return axes == [rank - 2, rank - 1] and _of_sizes(work, arguments) and _of_sizes(work, options)


def _of_sizes(work: Translation, given: Any) -> bool:
    if isinstance(given, Mapping):
        return all(_of_sizes(work, value) for value in given.values())
    if isinstance(given, (list, tuple)):
        return all(_of_sizes(work, value) for value in given)
    return isinstance(given, (Mask, RowTable, work.torch.SymInt)) or work.is_constant(given)


def masks(work: Translation, node: Any) -> Mask:
    """Return the mask that a node makes, for the most rows that the module takes."""
    for given in node.all_input_nodes:
        value = work.values.get(given)
        if isinstance(value, (Mask, RowTable)):
            size = len(value.table) if isinstance(value, RowTable) else value.table.shape[-1]
            work.rows_max = min(work.rows_max, int(size))

    def at(given: Any) -> Any:
        if isinstance(given, Mapping):
            return {name: at(value) for name, value in given.items()}
        if isinstance(given, (list, tuple)):
            return [at(value) for value in given]
        value = work.values[given] if isinstance(given, work.torch.fx.Node) else given
        if isinstance(value, Mask):
            return value.table[..., : work.rows_max, : work.rows_max].clone()  # some operators write into it
        if isinstance(value, RowTable):
            return _row_table(work, given, value)
        if isinstance(value, work.torch.SymInt):
            expression = value.node.expr
            return int(expression.subs(dict.fromkeys(expression.free_symbols, work.rows_max)))
        return value

    with work.torch.no_grad():
        return Mask(node.target(*at(node.args), **at(node.kwargs)))


def _row_table(work: Translation, node: Any, value: RowTable) -> Any:
    """A table of rows in the axes that the exported module gives it."""
    sizes = [work.rows_max if isinstance(size, work.torch.SymInt) else int(size) for size in node.meta["val"].shape]
    table = value.table[: work.rows_max]
    if table.dim() == 2 and sizes.count(work.rows_max) == 1:  # a square of which the columns are not cut yet
        sizes[-1] = table.shape[-1]
    return table.reshape(sizes)


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
