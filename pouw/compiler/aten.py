"""What each ATen operator means on matrices: the table that `export.py` looks operators up in."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from pouw.compiler.aten_attention import attend, attention, masked, masked_fill, softmax, where
from pouw.compiler.aten_functions import FUNCTIONS, activation
from pouw.compiler.aten_images import image_handlers
from pouw.compiler.aten_rotary import (
    by_position,
    halves,
    mean_square,
    negate,
    own_rms_norm,
    rms,
    rms_norm,
    root_inverse,
    turn,
    turned_in_part,
)
from pouw.compiler.aten_views import concatenate, permute, reshape, same, select, split, take_slice, transpose, unbind
from pouw.compiler.program import Float
from pouw.compiler.translation import (
    ByPosition,
    Halved,
    Ids,
    Matrix,
    MeanSquare,
    RowTable,
    Scores,
    Translation,
    float32,
)


def linear(work: Translation, node: Any, x: Any, weight: Any, bias: Any = None) -> Matrix:
    """Return x @ weight^T + bias."""
    matrix = float32(weight)
    source, matrix = _ordered(work, x, matrix)
    offset = np.zeros(len(matrix), dtype=np.float32) if bias is None else float32(bias)
    if matrix.ndim != 2 or matrix.shape[1] != work.widths[source]:
        raise work.refuse("linear", f"weight {list(matrix.shape)} for width {work.widths[source]}")
    single = work.single[source]
    made = work.add("linear", len(matrix), source, single=single, arrays={"weight": matrix, "bias": offset})
    return work.like(made, node.meta["val"].shape, single=single)


def _ordered(work: Translation, x: Any, matrix: Float) -> tuple[int, Float]:
    """Return a node and the weights for all its columns in their order, for a view of some in another."""
    if not isinstance(x, Matrix) or work.nodes[x.node].kind == "linear" or matrix.ndim != 2:
        return work.whole(x, "linear"), matrix
    source = work.whole(Matrix(x.node, np.arange(work.widths[x.node]).reshape(1, -1), None), "linear")
    flat = x.columns.reshape(-1)
    if x.rows is not None and prod(x.columns.shape[: x.rows]) != 1:
        return work.whole(x, "linear"), matrix  # which names what is wrong
    if matrix.shape[1] != flat.size or np.array_equal(flat, np.arange(work.widths[source])):
        return source, matrix
    spread = np.zeros((len(matrix), work.widths[source]), dtype=np.float32)
    np.add.at(spread.T, flat, matrix.T)
    return source, spread


def layer_norm(
    work: Translation,
    node: Any,
    x: Any,
    shape: Any,
    weight: Any = None,
    bias: Any = None,
    epsilon: float = 1e-5,
    *_: Any,
) -> Matrix:
    """Layer norm over the last axis."""
    source = work.whole(x, "layer_norm")
    width = work.widths[source]
    if list(shape) != [width]:
        raise work.refuse("layer_norm", f"normalises {list(shape)}, only the last axis {[width]} is known")
    gamma = np.ones(width, dtype=np.float32) if weight is None else float32(weight)
    beta = np.zeros(width, dtype=np.float32) if bias is None else float32(bias)
    single = work.single[source]
    arrays, numbers = {"gamma": gamma, "beta": beta}, {"epsilon": float(epsilon)}
    made = work.add("norm", width, source, single=single, arrays=arrays, numbers=numbers)
    return work.like(made, node.meta["val"].shape, single=single)


def embedding(work: Translation, node: Any, weight: Any, ids: Any, *_: Any) -> Any:
    """Rows of a table: of tokens, or of positions."""
    if isinstance(ids, RowTable):
        numbers = ids.table.long()
        beyond = (numbers >= len(weight)).nonzero()
        rows = int(beyond[0]) if len(beyond) else len(numbers)  # the table ends here, and with it the rows
        work.rows_max = min(work.rows_max, rows)
        return RowTable(weight[numbers[:rows]])
    if not isinstance(ids, Ids):
        raise work.refuse("embedding", "its ids are neither an input nor positions")
    made = work.add("embedding", weight.shape[1], ids.node, arrays={"table": float32(weight)})
    return work.like(made, node.meta["val"].shape, single=False)


def affine(work: Translation, node: Any, x: Matrix, factor: Float, offset: Float) -> Matrix:
    """Return x * factor + offset, by column; in a linear layer it costs nothing."""
    same_for_all = factor.size == offset.size == 1  # then it is no matter where heads and rows stand
    source = work.whole(Matrix(x.node, x.columns.reshape(-1), 0 if x.rows is not None else None) if same_for_all else x)
    width = work.widths[source]
    try:
        factor, offset = (np.broadcast_to(part.reshape(-1), (width,)) for part in (factor, offset))
    except ValueError:
        raise work.refuse("add or mul", "a constant that is neither one number nor one for each column") from None
    below, single = work.nodes[source], work.single[source]
    if below.kind == "rms" and not offset.any():
        return rms(work, node, below.sources[0], below.arrays["gamma"] * factor, below.numbers["epsilon"])
    if below.kind == "linear":
        arrays = {
            "weight": below.arrays["weight"] * factor[:, None],
            "bias": below.arrays["bias"] * factor + offset,
        }
        made = work.add("linear", width, *below.sources, single=single, arrays=arrays)
    else:
        made = work.add("affine", width, source, single=single, arrays={"factor": factor, "offset": offset})
    if same_for_all:
        return Matrix(made, np.arange(width).reshape(x.columns.shape), x.rows)
    return work.like(made, node.meta["val"].shape, single=single)


def _number(work: Translation, value: Any) -> Float:
    if isinstance(value, work.torch.Tensor):
        return float32(value)
    return np.array([value], dtype=np.float32)


def add(work: Translation, node: Any, x: Any, y: Any, alpha: float = 1) -> Any:  # noqa: C901, PLR0912  # one case a line
    """Return x + alpha * y: two matrices, positions, or a constant."""
    if isinstance(x, ByPosition) and isinstance(y, ByPosition) and alpha == 1:
        return turn(work, node, x, y)
    if isinstance(x, MeanSquare) and work.is_constant(y) and not x.inverse:
        return replace(x, epsilon=x.epsilon + float(_number(work, y).reshape(-1)[0]) * alpha)
    if not isinstance(x, Matrix):
        if isinstance(x, Scores):
            return masked(work, x, y, alpha)
        if isinstance(y, Scores):
            return masked(work, y, x, alpha)
        if alpha != 1:
            raise work.refuse("sub", "subtracts a value of the module from something else")
        if isinstance(x, RowTable) and isinstance(y, RowTable):
            return RowTable(x.table + y.table)
        if isinstance(x, RowTable) and work.is_constant(y):
            return RowTable(x.table + y)
        if isinstance(y, RowTable) and work.is_constant(x):
            return RowTable(y.table + x)
        x, y = y, x
    if not isinstance(x, Matrix):
        raise work.refuse("add", "neither operand is a matrix of the module's")
    if isinstance(y, Matrix):
        if alpha != 1:
            y = affine(work, node, y, np.array([alpha], dtype=np.float32), np.zeros(1, dtype=np.float32))
        return _sum(work, node, x, y)
    if isinstance(y, RowTable):
        return _positions(work, node, x, float32(y.table) * np.float32(alpha))
    if not work.is_constant(y):
        raise work.refuse("add", "the second operand is neither matrix nor constant")
    offset = _number(work, y) * np.float32(alpha)
    rows = work.row_counts[x.node]
    if rows not in {None, 1} and offset.size == rows * x.columns.size:
        return _positions(work, node, x, offset.reshape(rows, -1))
    return affine(work, node, x, np.ones(1, dtype=np.float32), offset)


def _sum(work: Translation, node: Any, x: Matrix, y: Matrix) -> Matrix:
    left, right = work.whole(x, "add"), work.whole(y, "add")
    if _shape_of(work, left) != _shape_of(work, right):
        raise work.refuse("add", "operands of two shapes")
    made = work.add("add", work.widths[left], left, right, single=work.single[left])
    return work.like(made, node.meta["val"].shape, single=work.single[left])


def _shape_of(work: Translation, index: int) -> tuple[int, bool, int | None]:
    return work.widths[index], work.single[index], work.row_counts[index]


def _positions(work: Translation, node: Any, x: Matrix, table: Float) -> Matrix:
    source = work.whole(x, "add")
    if table.ndim != 2 or table.shape[1] != work.widths[source]:
        raise work.refuse("add", f"positions {list(table.shape)} for width {work.widths[source]}")
    if work.row_counts[source] is None:
        work.rows_max = min(work.rows_max, len(table))
    made = work.add("positions", work.widths[source], source, arrays={"table": table})
    return work.like(made, node.meta["val"].shape, single=False)


def subtract(work: Translation, node: Any, x: Any, y: Any, alpha: float = 1) -> Any:
    """Return x - alpha * y."""
    return add(work, node, x, y, alpha=-alpha)


def multiply(work: Translation, node: Any, x: Any, y: Any) -> Any:
    """Return x * y: a gate of two matrices, or a constant."""
    if not isinstance(x, (Matrix, Scores, Halved)):
        x, y = y, x
    if isinstance(y, MeanSquare):
        return rms_norm(work, node, x, y)
    if isinstance(x, (Matrix, Halved)) and isinstance(y, RowTable):
        return by_position(x, y)
    if isinstance(x, Matrix) and isinstance(y, Matrix):
        left, right = work.whole(x, "mul"), work.whole(y, "mul")
        if _shape_of(work, left) != _shape_of(work, right):
            raise work.refuse("mul", "operands of two shapes")
        made = work.add("gate", work.widths[left], left, right, single=work.single[left])
        return work.like(made, node.meta["val"].shape, single=work.single[left])
    if not work.is_constant(y):
        raise work.refuse("mul", "the second operand is neither matrix nor constant")
    factor = _number(work, y)
    if isinstance(x, Scores):
        if factor.size != 1 or x.softmax:
            raise work.refuse("mul", "attention takes one factor, before the softmax")
        return replace(x, scale=x.scale * float(factor.reshape(-1)[0]))
    return affine(work, node, x, factor, np.zeros(1, dtype=np.float32))


def compare(work: Translation, _node: Any, x: Any, *_: Any) -> Any:
    """Refuse to compare what an input decides; tables of sizes are constants and do not come here."""
    if isinstance(x, Ids):
        raise work.refuse(
            "ne",
            "compares token ids (with padding, say): let your module pass position_ids, or compile the model's folder",
        )
    raise work.refuse("ne", "compares values of the module")


def negative(work: Translation, node: Any, x: Any) -> Any:
    """Return -x."""
    part = negate(work, x) if isinstance(x, Matrix) else None
    if part is not None:
        return part
    return multiply(work, node, x, -1.0)


def divide(work: Translation, node: Any, x: Any, y: Any) -> Any:
    """Return x / y, y a constant."""
    if not work.is_constant(y):
        raise work.refuse("div", "divides by a value of the module")
    return multiply(work, node, x, work.torch.as_tensor(1 / _number(work, y)))


def batch_norm(
    work: Translation, node: Any, x: Any, weight: Any, bias: Any, mean: Any, variance: Any, *rest: Any
) -> Matrix:
    """Batch norm of a trained module: a factor and an offset for each column."""
    training, _, epsilon, *_ = rest
    if training:
        raise work.refuse("batch_norm", "in training mode")
    factor = 1 / np.sqrt(float32(variance) + np.float32(epsilon))
    if weight is not None:
        factor = factor * float32(weight)
    offset = -float32(mean) * factor
    return affine(work, node, x, factor, offset if bias is None else offset + float32(bias))


def baddbmm(work: Translation, node: Any, bias: Any, x: Any, y: Any, *, beta: float = 1, alpha: float = 1) -> Scores:
    """Return bias + x @ y: a mask on scores."""
    scores = matmul(work, node, x, y)
    if beta != 1 or alpha != 1 or not isinstance(scores, Scores):
        raise work.refuse("baddbmm", "only a mask on attention's scores is known")
    return masked(work, scores, bias)


def matmul(work: Translation, node: Any, x: Any, y: Any) -> Any:
    """A linear layer, or one of attention's two products."""
    if isinstance(x, Matrix) and isinstance(y, work.torch.Tensor) and y.dim() == 2:
        return linear(work, node, x, y.t())
    if isinstance(x, Matrix) and isinstance(y, Matrix) and y.rows == y.columns.ndim:
        last = y.columns.ndim - 1
        keys = Matrix(y.node, y.columns, last)  # [.., size, rows] -> [.., rows, size]
        return Scores(x, keys, 1.0)
    if isinstance(x, Scores) and x.softmax:
        return attend(work, node, (x.queries, x.keys, y), x.scale, causal=x.causal)
    raise work.refuse("matmul", "neither a linear layer nor a part of attention")


def addmm(work: Translation, node: Any, bias: Any, x: Any, weight: Any, *, beta: float = 1, alpha: float = 1) -> Matrix:
    """Return bias + x @ weight."""
    return linear(work, node, x, weight.t() * alpha, bias * beta)


def mean(work: Translation, node: Any, x: Any, dim: Any = None, *_: Any, **__: Any) -> Any:
    """The mean over rows."""
    axes = [] if dim is None else [dim] if isinstance(dim, int) else list(dim)
    squares = mean_square(work, x, axes)
    if squares is not None:
        return squares
    if not isinstance(x, Matrix) or x.rows is None or [axis % (x.columns.ndim + 1) for axis in axes] != [x.rows]:
        raise work.refuse("mean", "only the mean over rows is known")
    source = work.whole(x, "mean")
    made = work.add("mean", work.widths[source], source, single=True)
    return work.like(made, node.meta["val"].shape, single=True)


def joined(work: Translation, node: Any, parts: Any, dim: int = 0) -> Any:
    """Halves exchanged, or constant rows before a matrix."""
    return halves(work, parts, dim) or turned_in_part(work, parts, dim) or concatenate(work, node, parts, dim)


def dropout(work: Translation, _node: Any, x: Any, _p: float, train: bool) -> Any:  # noqa: FBT001  # as ATen passes it
    """Return x: a trained module drops nothing."""
    if train:
        raise work.refuse("dropout", "in training mode")
    return x


def row_numbers(work: Translation, _node: Any, *_: Any, **__: Any) -> RowTable:
    """0, 1, 2 ... for each row."""
    return RowTable(work.torch.arange(work.rows_max))


HANDLERS: Mapping[str, Callable[..., Any]] = {
    "linear": linear,
    "layer_norm": layer_norm,
    "embedding": embedding,
    **{name: activation(name) for name in FUNCTIONS},
    **{f"{name}_": activation(name) for name in FUNCTIONS},
    "neg": negative,
    **dict.fromkeys(("ne", "eq", "lt", "le", "gt", "ge"), compare),
    "rsqrt": root_inverse,
    "rms_norm": own_rms_norm,
    "add": add,
    "add_": add,
    "sub": subtract,
    "mul": multiply,
    "div": divide,
    "batch_norm": batch_norm,
    "scaled_dot_product_attention": attention,
    "masked_fill": masked_fill,
    "masked_fill_": masked_fill,
    "where": where,
    "baddbmm": baddbmm,
    "matmul": matmul,
    "bmm": matmul,
    "mm": matmul,
    "addmm": addmm,
    "softmax": softmax,
    "_softmax": softmax,
    "mean": mean,
    "select": select,
    "slice": take_slice,
    "chunk": split,
    "split": split,
    "split_with_sizes": split,
    "unbind": unbind,
    "view": reshape,
    "reshape": reshape,
    "_unsafe_view": reshape,
    "unflatten": reshape,
    "flatten": reshape,
    "unsqueeze": reshape,
    "squeeze": reshape,
    "permute": permute,
    "transpose": transpose,
    "t": transpose,
    "contiguous": same,
    "clone": same,
    "dropout": dropout,
    "dropout_": dropout,
    "feature_dropout": dropout,
    "alias": same,
    "detach": same,
    "to": same,
    "_to_copy": same,
    "expand": same,
    "type_as": same,
    "arange": row_numbers,
    "cat": joined,
}
IMAGE_HANDLERS: Mapping[str, Callable[..., Any]] = image_handlers(HANDLERS)
