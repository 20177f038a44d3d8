"""Run a hypergraph, operator by operator, and commit to what came out.

The backend only computes; wiring, shapes and what is kept are decided here, so every backend makes the same trace.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, Protocol

import numpy as np

from chain.errors import Mismatch
from chain.hashing import H
from pouw.hypergraph import Constant, Hypergraph, Operator, SubgraphInput
from pouw.operators.errors import WrongDtype, WrongShape
from pouw.operators.rules import MATMUL, OperatorRule
from pouw.operators.types import Tensor, TensorType
from pouw.trace import tensor_root

MatmulHook = Callable[[int, Tensor, Tensor], Tensor]
OutputHook = Callable[[int, Tensor], Tensor]


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
    """For each subgraph its outputs, in the order of its ports."""
    operator_outputs: tuple[Tensor, ...] | None
    """Every operator's output by global index, when asked for."""
    graph: Hypergraph
    symbols: Mapping[str, int]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the run."""
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
    keep: Literal["outputs", "all"] = "outputs",
) -> Execution:
    """Execute a checked graph on one input.

    `matmul_hook(operator, a: int8[m, k], b_transposed: int8[n, k]) -> int32[m, n]` computes each product that may be
    mined instead of the backend. `on_output(operator, array) -> array` sees, and may replace, every operator's output.

    Raises:
        InputMissing, ConstantMissing, WrongDtype, WrongShape, UnknownSymbol, SymbolOutOfRange, TensorOutOfRange.
    """
    graph.check_symbols(symbols)
    if sorted(inputs) != sorted(port.name for port in graph.inputs):
        raise InputMissing("inputs", sorted(inputs), sorted(port.name for port in graph.inputs))
    for port in graph.inputs:
        check_array(port.name, inputs[port.name], port.type, symbols)
    edges = dict(inputs)
    kept: list[Tensor] = []
    subgraph_outputs = []
    index = 0
    for subgraph in graph.subgraphs:
        made: list[Tensor] = []
        for operator in subgraph.operators:
            tensors = _gather(operator, [edges[name] for name in subgraph.inputs], made, constants)
            if matmul_hook is not None and operator.rule is MATMUL and operator.attributes[0]:
                output = matmul_hook(index, *tensors)
            else:
                output = backend.compute(operator.rule, tensors, operator.attributes)
            if on_output is not None:
                output = on_output(index, output)
            made.append(output)
            index += 1
        for named in subgraph.outputs:
            check_array(named.port.name, made[named.operator], named.port.type, symbols)
            edges[named.port.name] = made[named.operator]
        subgraph_outputs.append(tuple(made[named.operator] for named in subgraph.outputs))
        if keep == "all":
            kept += made
    return Execution(
        outputs={name: edges[name] for name in graph.outputs},
        subgraph_outputs=tuple(subgraph_outputs),
        operator_outputs=tuple(kept) if keep == "all" else None,
        graph=graph,
        symbols=symbols,
    )


def subgraph_root(outputs: tuple[Tensor, ...]) -> bytes:
    """Return the root of one subgraph's outputs: H("subgraph-outputs", the tensor roots in the order of the ports)."""
    return H("subgraph-outputs", *(tensor_root(output) for output in outputs))


def trace_root(execution: Execution) -> bytes:
    """Return H("trace", the subgraphs' roots in order). No job, no salt: anyone's run gives the same."""
    return H("trace", *(subgraph_root(outputs) for outputs in execution.subgraph_outputs))


def check_array(what: str, array: Tensor, tensor: TensorType, symbols: Mapping[str, int]) -> None:
    """Refuse an array that is not of the type at these symbols.

    Raises:
        WrongDtype, WrongShape.
    """
    if array.dtype.name != tensor.dtype.name:
        raise WrongDtype(what, array.dtype.name, tensor.dtype.name)
    if array.shape != tensor.at(symbols):
        raise WrongShape(what, array.shape, tensor.at(symbols))


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


def _gather(
    operator: Operator, inputs: list[Tensor], made: list[Tensor], constants: Mapping[bytes, Tensor]
) -> tuple[Tensor, ...]:
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
    "check_array",
    "decode_tensors",
    "encode_tensors",
    "run",
    "subgraph_root",
    "trace_root",
]
