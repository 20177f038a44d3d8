"""Run a hypergraph, operator by operator, and commit to what came out.

The backend only computes; wiring, shapes and what is kept are decided here, so every backend makes the same trace.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal, Protocol

import numpy as np

from chain.errors import Mismatch
from chain.hashing import H
from pouw.history import RowsSoFar
from pouw.hypergraph import (
    Constant,
    Hypergraph,
    Operator,
    Subgraph,
    SubgraphInput,
    input_types,
)
from pouw.operators.errors import WrongDtype, WrongShape
from pouw.operators.rules import MATMUL, OperatorRule
from pouw.operators.types import Tensor, TensorType
from pouw.scan import ROWS_SO_FAR, STEP_ROWS, History, Scan, history_axis
from pouw.trace import DTYPES, tensor_root

MatmulHook = Callable[[int, Tensor, Tensor], Tensor]
OutputHook = Callable[[int, Tensor], Tensor]
RunSubgraph = Callable[[Subgraph, tuple[Tensor, ...], Mapping[bytes, Tensor]], tuple[Tensor, ...]]
"""A backend may have `run_subgraph(subgraph, inputs, constants) -> outputs in the order of the ports`, bit-equal."""
TokenHook = Callable[[int], None]
NUMPY_DTYPES = {dtype.name: np.dtype(dtype.name) for dtype in DTYPES}  # a dtype's own name is slow to make


class ConstantMissing(Mismatch):
    """A constant of the graph was not given."""


class TensorBytesWrong(Mismatch):
    """The bytes of a job's input or output have another length than the graph's types at the job's symbols."""


class InputMissing(Mismatch):
    """The inputs given are not the graph's inputs."""


class Backend(Protocol):
    """Something that computes operators, bit-equal to `pouw/operators`."""

    @property
    def name(self) -> str:
        """Name on the command line."""
        ...

    def compute(self, rule: OperatorRule, tensors: tuple[Tensor, ...], attributes: tuple[int, ...]) -> Tensor:
        """Return the operator's output."""
        ...


@dataclass(frozen=True, slots=True)
class Execution:
    """What one run of a graph made."""

    outputs: dict[str, Tensor]
    """The graph's outputs, in the graph's order."""
    subgraph_outputs: tuple[tuple[Tensor, ...], ...]
    """For each subgraph its outputs, in the order of its ports; with a scan step after step."""
    operator_outputs: tuple[Tensor, ...] | None
    """Every operator's output by global index, when asked for; with a scan step after step."""
    graph: Hypergraph
    symbols: Mapping[str, int]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the run; of a scan the bound that the registry holds."""
        return self.graph.macs(self.symbols)


def run(
    graph: Hypergraph,
    constants: Mapping[bytes, Tensor],
    inputs: Mapping[str, Tensor],
    symbols: Mapping[str, int],
    backend: Backend,
    *,
    matmul_hook: MatmulHook | None = None,
    on_output: OutputHook | None = None,
    on_token: TokenHook | None = None,
    keep: Literal["outputs", "all"] = "outputs",
) -> Execution:
    """Execute a checked graph on one input.

    `matmul_hook(operator, a: int8[m, k], b_transposed: int8[n, k]) -> int32[m, n]` computes each product that may be
    mined instead of the backend. `on_output(operator, array) -> array` sees, and may replace, every operator's output.
    In a scan both are called in each step, and `on_token(token)` after it.

    Raises:
        InputMissing, ConstantMissing, WrongDtype, WrongShape, UnknownSymbol, SymbolOutOfRange, TensorOutOfRange.
    """
    graph.check_symbols(symbols)
    if sorted(inputs) != sorted(port.name for port in graph.inputs):
        raise InputMissing("inputs", sorted(inputs), sorted(port.name for port in graph.inputs))
    for port in graph.inputs:
        check_array(port.name, inputs[port.name], port.type, symbols)
    machine = _Machine(graph, constants, backend, matmul_hook, on_output, keep == "all")
    if graph.scan is None:
        edges = machine.step(inputs, symbols)
        outputs = {name: edges[name] for name in graph.outputs}
    else:
        outputs = {graph.scan.output: _scan(graph.scan, machine, inputs, symbols, on_token)}
    return Execution(
        outputs=outputs,
        subgraph_outputs=tuple(machine.subgraph_outputs),
        operator_outputs=tuple(machine.kept) if keep == "all" else None,
        graph=graph,
        symbols=symbols,
    )


@dataclass(slots=True)
class _Machine:
    """Runs the top layer; knows the rows of earlier steps and all that was made."""

    graph: Hypergraph
    constants: Mapping[bytes, Tensor]
    backend: Backend
    matmul_hook: MatmulHook | None
    on_output: OutputHook | None
    keeps: bool
    subgraph_outputs: list[tuple[Tensor, ...]] = field(default_factory=list)
    kept: list[Tensor] = field(default_factory=list)
    histories: dict[str, RowsSoFar] = field(init=False)
    wholes: tuple[RunSubgraph | None, ...] = field(init=False)
    """For each subgraph the backend's way to run it; the same in every step of a scan."""

    def __post_init__(self) -> None:
        self.wholes = tuple(self._run_subgraph(subgraph) for subgraph in self.graph.subgraphs)
        types = input_types(self.graph)
        types.update({output.port.name: output.port.type for part in self.graph.subgraphs for output in part.outputs})
        sources = (source for part in self.graph.subgraphs for source in part.inputs)
        names = {source.name: None for source in sources if isinstance(source, History)}
        self.histories = {name: RowsSoFar(history_axis(name, types[name])) for name in names}

    def step(self, inputs: Mapping[str, Tensor], symbols: Mapping[str, int]) -> dict[str, Tensor]:
        """Run every subgraph once; return all edges."""
        edges: dict[str, Tensor] = {}
        so_far: dict[str, Tensor] = {}

        def write(name: str, tensor: Tensor) -> None:
            edges[name] = tensor
            if name in self.histories:
                so_far[name] = self.histories[name].append(tensor)

        for name, tensor in inputs.items():
            write(name, tensor)
        index = 0
        for subgraph, whole in zip(self.graph.subgraphs, self.wholes, strict=True):
            sources = [so_far[x.name] if isinstance(x, History) else edges[x] for x in subgraph.inputs]
            if whole is not None:
                outputs = whole(subgraph, tuple(sources), self.constants)
            else:
                made: list[Tensor] = []
                for place, operator in enumerate(subgraph.operators):
                    tensors = gather(operator, sources, made, self.constants)
                    made.append(self._compute(index + place, operator, tensors))
                outputs = tuple(made[named.operator] for named in subgraph.outputs)
                if self.keeps:
                    self.kept += made
            index += len(subgraph.operators)
            for named, output in zip(subgraph.outputs, outputs, strict=True):
                check_array(named.port.name, output, named.port.type, symbols)
                write(named.port.name, output)
            self.subgraph_outputs.append(outputs)
        return edges

    def _run_subgraph(self, subgraph: Subgraph) -> RunSubgraph | None:
        """Return the backend's way to run a whole subgraph, where it has one and nobody observes the operators."""
        if self.matmul_hook is not None or self.on_output is not None or self.keeps:
            return None
        references = (reference for operator in subgraph.operators for reference in operator.tensors)
        if any(isinstance(x, Constant) and x.root not in self.constants for x in references):
            return None  # one by one: the operator that lacks it is named
        found: RunSubgraph | None = getattr(self.backend, "run_subgraph", None)
        return found

    def _compute(self, index: int, operator: Operator, tensors: tuple[Tensor, ...]) -> Tensor:
        if self.matmul_hook is not None and operator.rule is MATMUL and operator.attributes[0]:
            output = self.matmul_hook(index, *tensors)
        else:
            output = self.backend.compute(operator.rule, tensors, operator.attributes)
        return output if self.on_output is None else self.on_output(index, output)


def _scan(
    scan: Scan,
    machine: _Machine,
    inputs: Mapping[str, Tensor],
    symbols: Mapping[str, int],
    on_token: TokenHook | None,
) -> Tensor:
    """Run steps until the stop token, which is the last output, or the limit; return all outputs: int32[1 .. limit]."""
    step_inputs = dict(inputs)
    rows_so_far = 0
    tokens: list[Tensor] = []
    while len(tokens) < symbols[scan.limit]:
        rows = step_inputs[scan.input].shape[0]
        rows_so_far += rows
        edges = machine.step(step_inputs, {**symbols, STEP_ROWS: rows, ROWS_SO_FAR: rows_so_far})
        step_inputs[scan.input] = token = edges[scan.output]
        tokens.append(token)
        if on_token is not None:
            on_token(int(token[0]))
        if int(token[0]) == scan.stop:
            break
    return np.concatenate(tokens)


def subgraph_root(outputs: tuple[Tensor, ...]) -> bytes:
    """Return the root of one subgraph's outputs: H("subgraph-outputs", the tensor roots in the order of the ports)."""
    return H("subgraph-outputs", *(tensor_root(output) for output in outputs))


def trace_children(execution: Execution) -> tuple[bytes, ...]:
    """Return what the trace root covers: the subgraphs' roots, with a scan H("step", these) for each step."""
    roots = [subgraph_root(outputs) for outputs in execution.subgraph_outputs]
    if execution.graph.scan is None:
        return tuple(roots)
    size = len(execution.graph.subgraphs)
    return tuple(H("step", *roots[start : start + size]) for start in range(0, len(roots), size))


def trace_root(execution: Execution) -> bytes:
    """Return H("trace", children). No job, no salt: anyone's run gives the same."""
    return H("trace", *trace_children(execution))


def check_array(what: str, array: Tensor, tensor: TensorType, symbols: Mapping[str, int]) -> None:
    """Refuse an array that is not of the type at these symbols.

    Raises:
        WrongDtype, WrongShape.
    """
    if array.dtype is not NUMPY_DTYPES[tensor.dtype.name] and array.dtype.name != tensor.dtype.name:
        raise WrongDtype(what, array.dtype.name, tensor.dtype.name)
    shape = tensor.at(symbols)
    if array.shape != shape:
        raise WrongShape(what, array.shape, shape)


def encode_tensors(tensors: Sequence[Tensor]) -> bytes:
    """Return the bytes of tensors one after the other, row-major little-endian: a job's input or output."""
    return b"".join(tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes() for tensor in tensors)


def decode_tensors(types: Sequence[TensorType], symbols: Mapping[str, int], data: bytes) -> list[Tensor]:
    """Return the tensors of a job's input or output; the shapes come from the graph, never from the bytes.

    Raises:
        TensorBytesWrong: another length than the types say.
    """
    shapes = [tensor.at(symbols) for tensor in types]
    sizes = [prod(shape) * tensor.dtype.size_bytes for shape, tensor in zip(shapes, types, strict=True)]
    if len(data) != sum(sizes):
        raise TensorBytesWrong("bytes of tensors", len(data), sum(sizes))
    tensors: list[Tensor] = []
    start = 0
    for tensor, shape, size in zip(types, shapes, sizes, strict=True):
        wire = np.frombuffer(data[start : start + size], dtype=np.dtype(tensor.dtype.name).newbyteorder("<"))
        tensors.append(wire.astype(tensor.dtype.name).reshape(shape))
        start += size
    return tensors


def decode_outputs(graph: Hypergraph, symbols: Mapping[str, int], data: bytes) -> list[Tensor]:
    """Return the tensors of a job's output. A scan's is 1 .. limit tokens: all that were made, the stop token included.

    Raises:
        TensorBytesWrong: another length than the types say.
    """
    if graph.scan is not None:
        limit = 4 * symbols[graph.scan.limit]
        if not 4 <= len(data) <= limit or len(data) % 4:
            raise TensorBytesWrong("bytes of tokens", len(data), f"a multiple of 4 up to {limit}")
        return [np.frombuffer(data, dtype="<i4").astype(np.int32)]
    types = {output.port.name: output.port.type for part in graph.subgraphs for output in part.outputs}
    types.update({port.name: port.type for port in graph.inputs})
    return decode_tensors([types[name] for name in graph.outputs], symbols, data)


def gather(
    operator: Operator, inputs: Sequence[Tensor], made: Sequence[Tensor], constants: Mapping[bytes, Tensor]
) -> tuple[Tensor, ...]:
    """Return what an operator reads, from its subgraph's inputs and the outputs of the operators before it.

    Raises:
        ConstantMissing
    """
    tensors = []
    for reference in operator.tensors:
        if isinstance(reference, Constant):
            if reference.root not in constants:
                raise ConstantMissing(operator.label, "nothing", reference.root)
            tensors.append(constants[reference.root])
        elif isinstance(reference, SubgraphInput):
            tensors.append(inputs[reference.index])
        else:
            tensors.append(made[reference.index])
    return tuple(tensors)


__all__ = [
    "Backend",
    "ConstantMissing",
    "Execution",
    "InputMissing",
    "MatmulHook",
    "OutputHook",
    "Tensor",
    "TensorBytesWrong",
    "TokenHook",
    "check_array",
    "decode_outputs",
    "decode_tensors",
    "encode_tensors",
    "gather",
    "run",
    "subgraph_root",
    "trace_children",
    "trace_root",
]
