"""Operators in one list -> subgraphs: cuts where the block changes, and names what crosses a cut."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from pouw.hypergraph import (
    SUBGRAPHS_MAX,
    Constant,
    Hypergraph,
    Operator,
    OperatorOutput,
    Port,
    Reference,
    Subgraph,
    SubgraphInput,
    SubgraphOutput,
    Symbol,
    check_graph,
)
from pouw.operators.rules import RULE_BY_NAME
from pouw.operators.types import Dimension, Tensor, TensorType
from pouw.trace import INT16, INT32, UINT8, DType, dtype_by_name, tensor_root

NAME_MAX = 64


@dataclass(frozen=True, slots=True)
class FromInput:
    """An input of the graph."""

    name: str


@dataclass(frozen=True, slots=True)
class FromOperator:
    """The output of the operator with this index in the list."""

    index: int


Handle = FromInput | FromOperator | Constant


@dataclass(frozen=True, slots=True)
class Built:
    """A checked graph and its constants by root."""

    graph: Hypergraph
    constants: Mapping[bytes, Tensor]


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    label: str
    tensors: tuple[Handle, ...]
    attributes: tuple[int, ...]
    block: str
    type: TensorType


@dataclass(slots=True)
class Assembly:
    """The graph in work; `rows` is the dimension that inputs have."""

    rows_dimension: Dimension
    rows_max: int
    constants: dict[bytes, Tensor] = field(default_factory=dict)
    inputs: dict[str, TensorType] = field(default_factory=dict)
    _steps: list[_Step] = field(default_factory=list)
    _block: str = "main"
    _label: str = ""
    _made: dict[tuple[object, ...], Handle] = field(default_factory=dict)

    def enter(self, block: str, label: str) -> None:
        """Say where the operators that follow belong."""
        self._block, self._label = clean_name(block), clean_name(label)

    def constant(self, array: Tensor) -> Constant:
        """Keep a constant and return its reference."""
        root = tensor_root(array)
        self.constants[root] = array
        return Constant(root, TensorType(dtype_by_name(array.dtype.name), array.shape))

    def ids(self, name: str) -> Handle:
        """Declare an input int32[rows]."""
        self.inputs[name] = TensorType(INT32, (self.rows_dimension,))
        return FromInput(name)

    def rows(self, name: str, width: int) -> Handle:
        """Declare an input int16[rows, width]."""
        self.inputs[name] = TensorType(INT16, (self.rows_dimension, width))
        return FromInput(name)

    def image(self, name: str, sides: tuple[int, int, int], dtype: DType = UINT8) -> Handle:
        """Declare an input uint8[height, width, channels], or int16."""
        self.inputs[name] = TensorType(dtype, sides)
        return FromInput(name)

    def input(self, name: str) -> Handle:
        """Return a declared input."""
        return FromInput(name)

    def add(self, name: str, *tensors: Handle, attributes: tuple[int, ...] = ()) -> Handle:
        """Append an operator, or return the equal one that this block has."""
        key = (self._block, name, tensors, attributes)
        if key not in self._made:
            kind = RULE_BY_NAME[name].output_type([self.type_of(tensor) for tensor in tensors], attributes)
            label = clean_name(f"{self._label}.{name}")
            self._steps.append(_Step(name, label, tensors, attributes, self._block, kind))
            self._made[key] = FromOperator(len(self._steps) - 1)
        return self._made[key]

    def type_of(self, handle: Handle) -> TensorType:
        """Return a tensor's type."""
        if isinstance(handle, FromInput):
            return self.inputs[handle.name]
        return handle.type if isinstance(handle, Constant) else self._steps[handle.index].type

    def width(self, handle: Handle) -> int:
        """Return the number of columns."""
        size = self.type_of(handle).shape[-1]
        assert isinstance(size, int)  # noqa: S101  # importers give every value a width
        return size

    def zeros(self, like: Handle) -> Handle:
        """Return int16 zeros of the shape of an int16 matrix: a product with multipliers 0."""
        width = self.width(like)
        none = self.constant(np.zeros(width, dtype=np.int32))
        factors = self.constant(np.ones(width, dtype=np.int16))
        total, maximum = self.add("add", like, like), self.add("row_maximum", like, factors)
        return self.add("rescale", total, maximum, none, none, attributes=(1, 1))

    def ones(self, like: Handle) -> Handle:
        """Return int32 ones for the rows of an int32 matrix; zeros have the row maximum 1."""
        size, width = self.type_of(like).shape
        if isinstance(size, int):
            return self.constant(np.ones(size, dtype=np.int32))
        # any row numbers serve as `maximum` while the multipliers are 0: the matrix's first operand has them
        source = self._int16_below(like)
        del width
        factors = self.constant(np.ones(self.width(source), dtype=np.int16))
        return self.add("row_maximum", self.zeros(source), factors)

    def _int16_below(self, handle: Handle) -> Handle:
        while self.type_of(handle).dtype != INT16:
            assert isinstance(handle, FromOperator)  # noqa: S101  # every int32 matrix is made from an int16 one
            handle = self._steps[handle.index].tensors[0]
        return handle

    def finish(self, name: str, outputs: Mapping[str, Handle]) -> Built:
        """Cut the list into subgraphs and check the graph.

        Raises:
            All that `check_graph` raises.
        """
        named: dict[int, str] = {}
        for output, handle in outputs.items():
            # an output of its own for each name: two names of one tensor are two operators
            assert isinstance(handle, FromOperator)  # noqa: S101
            named[handle.index] = clean_name(output)
        needed = self._needed(named)
        runs = self._runs(needed)
        home = {step: place for place, (_, steps) in enumerate(runs) for step in steps}
        crossing: dict[int, str] = dict(named)
        for index in sorted(needed):
            for tensor in self._steps[index].tensors:
                if isinstance(tensor, FromOperator) and home[tensor.index] != home[index]:
                    crossing.setdefault(tensor.index, f"{self._steps[tensor.index].label[:48]}.{tensor.index}")
        subgraphs = tuple(self._subgraph(block, steps, crossing) for block, steps in runs)
        symbols = (Symbol(self.rows_dimension, 1, self.rows_max),) if isinstance(self.rows_dimension, str) else ()
        ports = tuple(Port(label, kind) for label, kind in self.inputs.items())
        graph = Hypergraph(name, symbols, ports, tuple(clean_name(output) for output in outputs), subgraphs)
        check_graph(graph)
        used = graph.constants()
        return Built(graph, {root: array for root, array in self.constants.items() if root in used})

    def _needed(self, outputs: Iterable[int]) -> set[int]:
        """Return the operators that outputs depend on."""
        needed = set(outputs)
        for index in range(len(self._steps) - 1, -1, -1):
            if index in needed:
                tensors = self._steps[index].tensors
                needed.update(tensor.index for tensor in tensors if isinstance(tensor, FromOperator))
        return needed

    def _runs(self, needed: set[int]) -> list[tuple[str, list[int]]]:
        runs: list[tuple[str, list[int]]] = []
        for index in sorted(needed):
            step = self._steps[index]
            if not runs or runs[-1][0] != step.block:
                runs.append((step.block, []))
            runs[-1][1].append(index)
        if len(runs) > SUBGRAPHS_MAX:
            runs = [("main", sorted(needed))]
        seen: dict[str, int] = {}
        distinct = []
        for block, steps in runs:
            seen[block] = seen.get(block, 0) + 1
            distinct.append((block if seen[block] == 1 else f"{block[:56]}.{seen[block]}", steps))
        return distinct

    def _subgraph(self, block: str, steps: list[int], crossing: Mapping[int, str]) -> Subgraph:
        inputs: list[str] = []
        local = {step: place for place, step in enumerate(steps)}

        def reference(handle: Handle) -> Reference:
            if isinstance(handle, Constant):
                return handle
            if isinstance(handle, FromOperator) and handle.index in local:
                return OperatorOutput(local[handle.index])
            name = handle.name if isinstance(handle, FromInput) else crossing[handle.index]
            if name not in inputs:
                inputs.append(name)
            return SubgraphInput(inputs.index(name))

        operators = tuple(
            Operator(
                RULE_BY_NAME[step.name],
                step.label,
                tuple(reference(tensor) for tensor in step.tensors),
                step.attributes,
            )
            for step in (self._steps[index] for index in steps)
        )
        outputs = tuple(
            SubgraphOutput(Port(crossing[index], self._steps[index].type), local[index])
            for index in steps
            if index in crossing
        )
        return Subgraph(block, tuple(inputs), outputs, operators)


def clean_name(name: str) -> str:
    """Return a name that an encoding takes: a-z 0-9 _ . -, at most 64 (the end says most)."""
    return re.sub(r"[^a-z0-9_.\-]", "_", name.lower())[-NAME_MAX:] or "x"
