"""What each ATen operator means on matrices: the table that `export.py` looks operators up in."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pouw.compiler.program import Float, Node, UnmappableOperator

Columns = NDArray[np.int64]
NOT_MODELS = re.compile(r"[/\\](site-packages|dist-packages)[/\\]torch[/\\]|[/\\]pouw[/\\]compiler[/\\]")
FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in \S+\n\s*(?P<code>[^\n]*)')


@dataclass(frozen=True, slots=True)
class Matrix:
    """A view of a node's value."""

    node: int
    columns: Columns
    """For each position of the axes but `rows`: the node's column."""
    rows: int | None
    """Which axis of the view counts rows; None: one row, no axis."""


@dataclass(frozen=True, slots=True)
class Ids:
    """Token ids, an input."""

    node: int


@dataclass(frozen=True, slots=True)
class RowTable:
    """A constant of which each row takes its own entry: positions."""

    table: Any
    """torch tensor [rows] or [rows, width]."""


@dataclass(frozen=True, slots=True)
class Scores:
    """queries @ keys, scaled, perhaps under a softmax: half an attention."""

    queries: Matrix
    keys: Matrix
    scale: float
    softmax: bool = False


class Translation:
    """The program in work and what each node of the exported graph became."""

    def __init__(self, torch: Any, rows_max: int) -> None:
        self.torch = torch
        self.rows_max = rows_max
        self.fixed_rows: int | None = None
        self.nodes: list[Node] = []
        self.widths: list[int] = []
        self.single: list[bool] = []
        """For each node whether it has one row only, behind a mean."""
        self.values: dict[Any, Any] = {}
        self.origin = ""
        self.block = "main"
        self.label = ""
        self._parts: dict[tuple[int, bytes], int] = {}

    def locate(self, node: Any) -> None:
        """Note the source line and the block of a node of the exported graph."""
        frames = list(FRAME.finditer(node.meta.get("stack_trace") or ""))
        own = [frame for frame in frames if not NOT_MODELS.search(frame["file"])] or frames
        self.origin = f"{own[-1]['file']}:{own[-1]['line']}: {own[-1]['code'].strip()}" if own else node.name
        self.block, self.label = "main", node.name
        for path, kind in (node.meta.get("nn_module_stack") or {}).values():
            names = path.split(".")
            numbered = [place for place, name in enumerate(names) if name.isdigit()]
            leaf = str(kind).startswith(
                ("torch.nn.modules.linear", "torch.nn.modules.activation.", "torch.nn.modules.norm")
            )
            if numbered and not (leaf and numbered[0] == len(names) - 1):
                self.block = ".".join(names[: numbered[0] + 1])
            self.label = path or node.name

    def refuse(self, operator: str, reason: str) -> UnmappableOperator:
        """Return the error that names an operator and where the model uses it."""
        return UnmappableOperator(f"aten.{operator}", reason, self.origin)

    def arguments(self, given: Any) -> Any:
        """Return arguments with nodes replaced by their values."""
        if isinstance(given, Mapping):
            return {name: self.arguments(value) for name, value in given.items()}
        if isinstance(given, (list, tuple)):
            return [self.arguments(value) for value in given]
        return self.values[given] if isinstance(given, self.torch.fx.Node) else given

    def is_constant(self, given: Any) -> bool:
        """Whether an argument depends on no input, not even through a size."""
        if isinstance(given, Mapping):
            return all(self.is_constant(value) for value in given.values())
        if isinstance(given, (list, tuple)):
            return all(self.is_constant(value) for value in given)
        return not isinstance(
            given, (Matrix, Ids, RowTable, Scores, self.torch.SymInt, self.torch.SymFloat, self.torch.SymBool)
        )

    def add(self, kind: str, width: int, *sources: int, single: bool = False, **rest: Any) -> int:
        """Append a node of the program and return its index."""
        self.nodes.append(Node(kind, self.label, sources, block=self.block, origin=self.origin, **rest))
        self.widths.append(width)
        self.single.append(single)
        return len(self.nodes) - 1

    def input(self, node: Any, rows: int) -> None:
        """Declare an input of the module."""
        value = node.meta["val"]
        self.label, self.block = node.name, "main"
        size = value.shape[rows]
        if isinstance(size, self.torch.SymInt):
            low_high = node.meta["val"].fake_mode.shape_env.bound_sympy(size.node.expr)
            if str(low_high.upper).isdigit():
                self.rows_max = min(self.rows_max, int(low_high.upper))
        else:
            self.fixed_rows = self.rows_max = int(size)
        if not value.dtype.is_floating_point:
            self.values[node] = Ids(self.add("ids", 1))
            return
        width = int(value.shape[-1])
        made = self.add("rows", width, numbers={"width": width})
        columns = np.arange(width).reshape([side for axis, side in enumerate(value.shape) if axis != rows])
        self.values[node] = Matrix(made, columns, rows)

    # Views

    def is_rows(self, size: Any) -> bool:
        """Whether a size is the number of rows."""
        return isinstance(size, self.torch.SymInt) or size == self.fixed_rows

    def whole(self, x: Any, operator: str = "view") -> int:
        """Return a node whose columns are the view's, in order; columns are taken apart in linear layers only."""
        if not isinstance(x, Matrix):
            raise self.refuse(operator, "takes a value that is no matrix of the module's")
        if x.rows is not None and prod(x.columns.shape[: x.rows]) != 1:
            raise self.refuse(operator, "an axis other than the last holds more than rows (a batch has to be 1)")
        flat = x.columns.reshape(-1)
        if np.array_equal(flat, np.arange(self.widths[x.node])):
            return x.node
        key = (x.node, flat.tobytes())
        if key not in self._parts:
            node = self.nodes[x.node]
            if node.kind != "linear":
                raise self.refuse(operator, f"takes some columns of {node.kind} {node.label}: only linear layers split")
            arrays = {"weight": node.arrays["weight"][flat], "bias": node.arrays["bias"][flat]}
            self.nodes.append(replace(node, arrays=arrays))
            self.widths.append(len(flat))
            self.single.append(self.single[x.node])
            self._parts[key] = len(self.nodes) - 1
        return self._parts[key]

    def like(self, node: int, shape: Any, *, single: bool) -> Matrix:
        """Return the view of a new node that has the shape of the exported result."""
        if single:
            return Matrix(node, np.arange(self.widths[node]).reshape(tuple(shape)), None)
        sizes = list(shape)
        rows = next(axis for axis, size in enumerate(sizes) if self.is_rows(size))
        return Matrix(node, np.arange(self.widths[node]).reshape(sizes[:rows] + sizes[rows + 1 :]), rows)


def float32(tensor: Any) -> Float:
    """Return a constant as numpy float32."""
    found: Float = tensor.detach().to("cpu").float().numpy()
    return found


def linear(work: Translation, node: Any, x: Any, weight: Any, bias: Any = None) -> Matrix:
    """Return x @ weight^T + bias."""
    source = work.whole(x, "linear")
    matrix = float32(weight)
    offset = np.zeros(len(matrix), dtype=np.float32) if bias is None else float32(bias)
    if matrix.ndim != 2 or matrix.shape[1] != work.widths[source]:
        raise work.refuse("linear", f"weight {list(matrix.shape)} for width {work.widths[source]}")
    single = work.single[source]
    made = work.add("linear", len(matrix), source, single=single, arrays={"weight": matrix, "bias": offset})
    return work.like(made, node.meta["val"].shape, single=single)


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


def activation(function: str) -> Callable[..., Matrix]:
    """Return the handler of an elementwise function."""

    def handle(work: Translation, node: Any, x: Any, *_: Any, approximate: str = "none") -> Matrix:
        if not isinstance(x, Matrix):
            raise work.refuse(function, "takes a value that is no matrix of the module's")
        name = "gelu_tanh" if function == "gelu" and approximate == "tanh" else function
        single = work.single[x.node]
        if x.columns.size == work.widths[x.node]:
            made = work.add("activation", work.widths[x.node], x.node, single=single, function=name)
            return Matrix(made, x.columns, x.rows)
        source = work.whole(x, function)
        made = work.add("activation", work.widths[source], source, single=single, function=name)
        return work.like(made, node.meta["val"].shape, single=single)

    return handle


def affine(work: Translation, node: Any, x: Matrix, factor: Float, offset: Float) -> Matrix:
    """Return x * factor + offset, by column; in a linear layer it costs nothing."""
    source = work.whole(x)
    width = work.widths[source]
    try:
        factor, offset = (np.broadcast_to(part.reshape(-1), (width,)) for part in (factor, offset))
    except ValueError:
        raise work.refuse("add or mul", "a constant that is neither one number nor one for each column") from None
    below, single = work.nodes[source], work.single[source]
    if below.kind == "linear":
        arrays = {
            "weight": below.arrays["weight"] * factor[:, None],
            "bias": below.arrays["bias"] * factor + offset,
        }
        made = work.add("linear", width, *below.sources, single=single, arrays=arrays)
    else:
        made = work.add("affine", width, source, single=single, arrays={"factor": factor, "offset": offset})
    return work.like(made, node.meta["val"].shape, single=single)


def _number(work: Translation, value: Any) -> Float:
    if isinstance(value, work.torch.Tensor):
        return float32(value)
    return np.array([value], dtype=np.float32)


def add(work: Translation, node: Any, x: Any, y: Any, alpha: float = 1) -> Any:  # noqa: C901  # one case a line
    """Return x + alpha * y: two matrices, positions, or a constant."""
    if not isinstance(x, Matrix):
        if isinstance(x, Scores) or alpha != 1:
            raise work.refuse("add", "an attention mask or factor: only full attention is known")
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
        return _positions(work, node, x, float32(y.table))
    if not work.is_constant(y):
        raise work.refuse("add", "the second operand is neither matrix nor constant")
    offset = _number(work, y) * np.float32(alpha)
    if work.fixed_rows not in {None, 1} and offset.size == work.fixed_rows * x.columns.size:
        return _positions(work, node, x, offset.reshape(work.fixed_rows, -1))
    return affine(work, node, x, np.ones(1, dtype=np.float32), offset)


def _sum(work: Translation, node: Any, x: Matrix, y: Matrix) -> Matrix:
    left, right = work.whole(x, "add"), work.whole(y, "add")
    if work.widths[left] != work.widths[right] or work.single[left] != work.single[right]:
        raise work.refuse("add", "operands of two shapes")
    made = work.add("add", work.widths[left], left, right, single=work.single[left])
    return work.like(made, node.meta["val"].shape, single=work.single[left])


def _positions(work: Translation, node: Any, x: Matrix, table: Float) -> Matrix:
    source = work.whole(x, "add")
    if table.ndim != 2 or table.shape[1] != work.widths[source]:
        raise work.refuse("add", f"positions {list(table.shape)} for width {work.widths[source]}")
    work.rows_max = min(work.rows_max, len(table))
    made = work.add("positions", work.widths[source], source, arrays={"table": table})
    return work.like(made, node.meta["val"].shape, single=False)


def subtract(work: Translation, node: Any, x: Any, y: Any, alpha: float = 1) -> Any:
    """Return x - alpha * y."""
    return add(work, node, x, y, alpha=-alpha)


def multiply(work: Translation, node: Any, x: Any, y: Any) -> Any:
    """Return x * y: a gate of two matrices, or a constant."""
    if not isinstance(x, (Matrix, Scores)):
        x, y = y, x
    if isinstance(x, Matrix) and isinstance(y, Matrix):
        left, right = work.whole(x, "mul"), work.whole(y, "mul")
        if work.widths[left] != work.widths[right] or work.single[left] != work.single[right]:
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
    """softmax(q @ k^T * scale) @ v, every row sees every row."""
    name = "scaled_dot_product_attention"
    if is_causal or enable_gqa:
        raise work.refuse(name, "causal or grouped attention: compile decoders from their Hugging Face folder")
    if attn_mask is not None and not _shows_all(work, attn_mask):
        raise work.refuse(name, "an attention mask: only full attention is known")
    if dropout_p:
        raise work.refuse(name, "with dropout")
    return _attend(work, node, q, k, v, scale)


def _shows_all(work: Translation, mask: Any) -> bool:
    if not isinstance(mask, work.torch.Tensor):
        return False
    return bool(mask.all()) if mask.dtype == work.torch.bool else bool((mask == 0).all())


def _attend(work: Translation, node: Any, q: Any, k: Any, v: Any, scale: float | None) -> Matrix:
    name = "scaled_dot_product_attention"
    heads, size = 0, 0
    sources = []
    for part in (q, k, v):
        if not isinstance(part, Matrix) or part.rows != part.columns.ndim - 1:
            raise work.refuse(name, "queries, keys and values are expected as [1, heads, rows, size]")
        size = part.columns.shape[-1]
        heads = prod(part.columns.shape[:-1])
        sources.append(work.whole(Matrix(part.node, part.columns.reshape(1, heads * size), 0), name))
        if len({work.widths[source] for source in sources}) != 1:
            raise work.refuse(name, "queries, keys and values of different widths")
    numbers = {"heads": heads, "head_size": size, "scale": size**-0.5 if scale is None else float(scale)}
    made = work.add("attention", heads * size, *sources, numbers=numbers)
    return work.like(made, node.meta["val"].shape, single=False)


def matmul(work: Translation, node: Any, x: Any, y: Any) -> Any:
    """A linear layer, or one of attention's two products."""
    if isinstance(x, Matrix) and isinstance(y, work.torch.Tensor) and y.dim() == 2:
        return linear(work, node, x, y.t())
    if isinstance(x, Matrix) and isinstance(y, Matrix) and y.rows == y.columns.ndim:
        last = y.columns.ndim - 1
        keys = Matrix(y.node, y.columns, last)  # [.., size, rows] -> [.., rows, size]
        return Scores(x, keys, 1.0)
    if isinstance(x, Scores) and x.softmax:
        return _attend(work, node, x.queries, x.keys, y, x.scale)
    raise work.refuse("matmul", "neither a linear layer nor a part of attention")


def addmm(work: Translation, node: Any, bias: Any, x: Any, weight: Any, *, beta: float = 1, alpha: float = 1) -> Matrix:
    """Return bias + x @ weight."""
    return linear(work, node, x, weight.t() * alpha, bias * beta)


def softmax(work: Translation, _node: Any, x: Any, dim: int, *_: Any) -> Scores:
    """The softmax of an attention."""
    if isinstance(x, Scores) and not x.softmax and dim in {-1, x.queries.columns.ndim}:
        return replace(x, softmax=True)
    raise work.refuse("softmax", "only inside of attention; let the module return logits")


def mean(work: Translation, node: Any, x: Any, dim: Any = None, *_: Any, **__: Any) -> Matrix:
    """The mean over rows."""
    axes = [] if dim is None else [dim] if isinstance(dim, int) else list(dim)
    if not isinstance(x, Matrix) or x.rows is None or [axis % (x.columns.ndim + 1) for axis in axes] != [x.rows]:
        raise work.refuse("mean", "only the mean over rows is known")
    source = work.whole(x, "mean")
    made = work.add("mean", work.widths[source], source, single=True)
    return work.like(made, node.meta["val"].shape, single=True)


def select(work: Translation, node: Any, x: Any, dim: int, index: Any) -> Any:
    """One place of an axis: the first row, or a part of the columns."""
    if isinstance(x, RowTable):
        return x
    if not isinstance(x, Matrix):
        raise work.refuse("select", "takes a value that is no matrix of the module's")
    axis = dim % (x.columns.ndim + (x.rows is not None))
    if axis == x.rows:
        if index != 0:
            raise work.refuse("select", f"row {index}: only the first is known")
        source = work.whole(x, "select")
        made = work.add("first", work.widths[source], source, single=True)
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
        if start in {None, 0} and step == 1 and work.is_rows(node.meta["val"].shape[axis]):
            return x
        raise work.refuse("slice", "of rows: only the first row alone is known")
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
        if work.is_rows(size) and fixed and prod(sizes[:axis]) == before and prod(rest) == x.columns.size:
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


def same(_work: Translation, _node: Any, x: Any, *_: Any, **__: Any) -> Any:
    """What changes no value: dropout of a trained module, contiguous, casts."""
    return x


def row_numbers(work: Translation, _node: Any, *_: Any, **__: Any) -> RowTable:
    """0, 1, 2 ... for each row."""
    return RowTable(work.torch.arange(work.rows_max))


HANDLERS: Mapping[str, Callable[..., Any]] = {
    "linear": linear,
    "layer_norm": layer_norm,
    "embedding": embedding,
    "gelu": activation("gelu"),
    "relu": activation("relu"),
    "relu_": activation("relu"),
    "silu": activation("silu"),
    "silu_": activation("silu"),
    "tanh": activation("tanh"),
    "sigmoid": activation("sigmoid"),
    "add": add,
    "add_": add,
    "sub": subtract,
    "mul": multiply,
    "div": divide,
    "batch_norm": batch_norm,
    "scaled_dot_product_attention": attention,
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
    "dropout": same,
    "alias": same,
    "detach": same,
    "to": same,
    "_to_copy": same,
    "expand": same,
    "arange": row_numbers,
}
