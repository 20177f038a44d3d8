"""What ATen's attention means, in one operator or written out: full, or causal; every other mask is refused by name."""

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from pouw.compiler.aten_masks import CAUSAL, FULL, kind_of
from pouw.compiler.aten_rotary import in_pairs
from pouw.compiler.translation import Mask, Matrix, Scores, Translation


def attention(
    work: Translation,
    node: Any,
    q: Any,
    k: Any,
    v: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,  # noqa: FBT001, FBT002  # as ATen passes it
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Matrix:
    """softmax(q @ k^T * scale) @ v; a row sees every row, or the rows up to itself."""
    name = "scaled_dot_product_attention"
    if attn_mask is not None:
        seen = kind_of(work, attn_mask)
        if seen is None or (is_causal and seen != FULL):
            raise work.refuse(name, "an attention mask: only full and causal attention are known")
        is_causal = is_causal or seen == CAUSAL
    if dropout_p:
        raise work.refuse(name, "with dropout")
    return attend(work, node, (q, k, v), scale, causal=is_causal, grouped=enable_gqa)


def attend(
    work: Translation,
    node: Any,
    parts: tuple[Any, Any, Any],
    scale: float | None,
    *,
    causal: bool,
    grouped: bool = False,
) -> Matrix:
    """Return the node that mixes values under the softmax of queries @ keys^T * scale; `parts` are the three."""
    name = "scaled_dot_product_attention"
    heads: list[int] = []
    sizes: list[int] = []
    sources = []
    shared = _shared(parts[1]) if causal and _shared(parts[1]) == _shared(parts[2]) else 1
    parts = (parts[0], *(_each(part, shared) for part in parts[1:]))
    grouped = grouped or shared > 1
    if all(isinstance(part, Matrix) for part in parts):
        parts = (*in_pairs(work, parts[0], parts[1]), parts[2])
    for part in parts:
        if not isinstance(part, Matrix) or part.rows != part.columns.ndim - 1:
            raise work.refuse(name, "queries, keys and values are expected as [1, heads, rows, size]")
        sizes.append(part.columns.shape[-1])
        heads.append(prod(part.columns.shape[:-1]))
        sources.append(work.whole(Matrix(part.node, part.columns.reshape(1, heads[-1] * sizes[-1]), 0), name))
    if len(set(sizes)) != 1 or heads[1] != heads[2] or (heads[0] != heads[1] and not grouped):
        raise work.refuse(name, "queries, keys and values of different widths")
    if heads[0] % heads[1] or (heads[0] != heads[1] and not causal):
        raise work.refuse(name, "grouped heads are known in causal attention, in whole groups")
    numbers = {"heads": heads[0], "head_size": sizes[0], "scale": sizes[0] ** -0.5 if scale is None else float(scale)}
    if causal:
        numbers["kv_heads"] = heads[1]
    made = work.add("attention", heads[0] * sizes[0], *sources, numbers=numbers)
    return work.like(made, node.meta["val"].shape, single=False)


def _shared(x: Any) -> int:
    """Return how many heads after each other are the same columns: keys and values that heads share."""
    if not isinstance(x, Matrix) or x.columns.ndim < 2:
        return 1
    heads = x.columns.reshape(-1, x.columns.shape[-1])
    last = 1
    while last < len(heads) and np.array_equal(heads[last], heads[0]):
        last += 1
    whole = len(heads) % last == 0 and np.array_equal(heads, np.repeat(heads[::last], last, axis=0))
    return last if whole else 1


def _each(x: Any, shared: int) -> Any:
    if shared == 1:
        return x
    size = x.columns.shape[-1]
    heads = x.columns.reshape(-1, size)[::shared]
    return Matrix(x.node, heads.reshape(*[1] * (x.columns.ndim - 2), len(heads), size), x.rows)


def masked(work: Translation, x: Scores, mask: Any, factor: float = 1) -> Scores:
    """Scores plus a mask: causal, or nothing."""
    seen = None if x.softmax or factor != 1 else kind_of(work, mask)
    if seen is None:
        raise work.refuse("add", "an attention mask: only full and causal attention are known")
    return replace(x, causal=x.causal or seen == CAUSAL)


def masked_fill(work: Translation, _node: Any, x: Any, hidden: Any, value: Any) -> Scores:
    """Scores with what `hidden` says replaced by a number that the softmax makes zero."""
    if not isinstance(x, Scores):
        raise work.refuse("masked_fill", "fills a value that is no attention's scores")
    hidden = hidden.table if isinstance(hidden, Mask) else hidden
    if not isinstance(hidden, work.torch.Tensor) or not work.is_constant(value):
        raise work.refuse("masked_fill", "the mask depends on an input")
    return masked(work, x, Mask(work.torch.where(hidden, float(value), 0.0)))


def where(work: Translation, node: Any, shown: Any, x: Any, value: Any) -> Scores:
    """Scores where a mask shows them, a number that the softmax makes zero elsewhere."""
    shown = shown.table if isinstance(shown, Mask) else shown
    if not isinstance(shown, work.torch.Tensor):
        raise work.refuse("where", "the condition depends on an input")
    return masked_fill(work, node, x, ~shown, value)


def softmax(work: Translation, _node: Any, x: Any, dim: int, *_: Any) -> Scores:
    """The softmax of an attention."""
    if isinstance(x, Scores) and not x.softmax and dim in {-1, x.queries.columns.ndim}:
        return replace(x, softmax=True)
    raise work.refuse("softmax", "only inside of attention; let the module return logits")
