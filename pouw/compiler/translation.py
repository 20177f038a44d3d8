"""What a value of an exported module is while it is translated: a matrix seen through axes, ids, positions, scores."""

import re
from collections.abc import Mapping
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

    def shaped(self, shape: Any) -> "Matrix":
        """Return one row in another shape."""
        return Matrix(self.node, self.columns.reshape(tuple(shape)), None)


@dataclass(frozen=True, slots=True)
class Image:
    """A node's value seen as [1, channels, height, width]: its rows are pixels, its columns channels."""

    node: int
    height: int
    width: int
    last: bool = False
    """Whether channels are the last axis instead."""


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
    causal: bool = False
    """Whether a row sees the rows up to itself only."""


@dataclass(frozen=True, slots=True)
class Mask:
    """A table rows x rows that no input decides: what may be seen, or what is added to scores."""

    table: Any
    """torch tensor [.., n, n]: as it is for n rows, n the most that the module takes."""


@dataclass(frozen=True, slots=True)
class Negated:
    """A matrix less than zero: half of what rotary positions turn."""

    matrix: Matrix


@dataclass(frozen=True, slots=True)
class Halved:
    """A matrix with the halves of its last axis exchanged, the first one negated: (-second, first)."""

    matrix: Matrix


@dataclass(frozen=True, slots=True)
class ByPosition:
    """A matrix times a table of rows: cosines, or sines for what is halved."""

    matrix: Matrix
    table: Any
    """torch tensor [rows, size]."""
    halved: bool


@dataclass(frozen=True, slots=True)
class MeanSquare:
    """The mean of a matrix' squares in each row, and what is added to it."""

    matrix: Matrix
    epsilon: float = 0.0
    inverse: bool = False
    """Whether one over its root is meant."""


VALUES = (Matrix, Image, Ids, RowTable, Scores, Mask, Negated, Halved, ByPosition, MeanSquare)


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
        self.row_counts: list[int | None] = []
        """For each node its number of rows; None where the input decides."""
        self.values: dict[Any, Any] = {}
        self.origin = ""
        self.block = "main"
        self.label = ""
        self.lengths: dict[str, str] = {}
        """Number of rows, as torch.export names it -> an input that has it; there may be one."""
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
            given,
            (*VALUES, self.torch.SymInt, self.torch.SymFloat, self.torch.SymBool),
        )

    def add(
        self, kind: str, width: int, *sources: int, single: bool = False, rows: int | None = None, **rest: Any
    ) -> int:
        """Append a node of the program and return its index; `rows` where they are not those of its source."""
        self.row_counts.append(1 if single else rows or (self.row_counts[sources[0]] if sources else self.fixed_rows))
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
        self.lengths[str(size)] = node.name
        if len(self.lengths) > 1:
            raise self.refuse("placeholder", f"inputs {', '.join(self.lengths.values())} differ in their rows")
        if not value.dtype.is_floating_point:
            self.values[node] = Ids(self.add("ids", 1))
            return
        width = int(value.shape[-1])
        made = self.add("rows", width, numbers={"width": width})
        columns = np.arange(width).reshape([side for axis, side in enumerate(value.shape) if axis != rows])
        self.values[node] = Matrix(made, columns, rows)

    def picture(self, node: Any) -> None:
        """Declare an input float[1, channels, height, width]."""
        self.label, self.block = node.name, "main"
        channels, height, width = (int(side) for side in node.meta["val"].shape[1:])
        if self.nodes and self.nodes[0].kind != "picture":
            raise self.refuse("placeholder", "an image beside an input of rows")
        self.fixed_rows = self.rows_max = height * width
        numbers = {"height": height, "width": width, "channels": channels}
        self.values[node] = Image(self.add("picture", channels, numbers=numbers), height, width)
        self.lengths.setdefault("image", node.name)

    # Views

    def is_rows(self, size: Any, node: int) -> bool:
        """Whether a size is a node's number of rows."""
        return isinstance(size, self.torch.SymInt) or size == self.row_counts[node]

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
            if node.kind == "flatten" and self._is_turned(node.sources[0], flat):
                turned = self.add("turned", self.row_counts[node.sources[0]] or 1, node.sources[0])
                self.row_counts[turned] = self.widths[node.sources[0]]
                self._parts[key] = self.add("flatten", len(flat), turned, single=True)
                return self._parts[key]
            if node.kind != "linear":
                raise self.refuse(operator, f"takes some columns of {node.kind} {node.label}: only linear layers split")
            arrays = {"weight": node.arrays["weight"][flat], "bias": node.arrays["bias"][flat]}
            self.nodes.append(replace(node, arrays=arrays))
            self.widths.append(len(flat))
            self.single.append(self.single[x.node])
            self.row_counts.append(self.row_counts[x.node])
            self._parts[key] = len(self.nodes) - 1
        return self._parts[key]

    def _is_turned(self, source: int, flat: Columns) -> bool:
        """Whether places of an image are in the order of its channels."""
        pixels, channels = self.row_counts[source] or 1, self.widths[source]
        return bool(np.array_equal(flat, np.arange(flat.size).reshape(pixels, channels).T.reshape(-1)))

    def like(self, node: int, shape: Any, *, single: bool) -> Matrix:
        """Return the view of a new node that has the shape of the exported result."""
        if single:
            return Matrix(node, np.arange(self.widths[node]).reshape(tuple(shape)), None)
        sizes = list(shape)
        rows = next(axis for axis, size in enumerate(sizes) if self.is_rows(size, node))
        return Matrix(node, np.arange(self.widths[node]).reshape(sizes[:rows] + sizes[rows + 1 :]), rows)


def float32(tensor: Any) -> Float:
    """Return a constant as numpy float32."""
    found: Float = tensor.detach().to("cpu").float().numpy()
    return found
