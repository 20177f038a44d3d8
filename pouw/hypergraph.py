"""The two-layer graph: subgraphs joined by named tensors, each a DAG of operators.

Decides what a well-formed graph is, its global operator indices, its mining operands and its MACs. Bytes are in
`pouw/graph_encoding.py`, which also makes the ids.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from chain.errors import Mismatch, OutOfRange
from pouw.operators.errors import WrongShape
from pouw.operators.rules import MATMUL, OperatorRule
from pouw.operators.types import TensorType, Term

SYMBOLS_MAX = 4
PORTS_MAX = 64
SUBGRAPHS_MAX = 256
OPERATORS_MAX = 4096
ELEMENTS_MAX = 2**31


class DuplicateName(Mismatch):
    """Two symbols, tensors or subgraphs share a name."""


class UnknownTensor(Mismatch):
    """A subgraph or an operator reads a tensor that nothing before it wrote."""


class UnknownSymbol(Mismatch):
    """A shape names a symbol that the graph does not declare."""


class GraphTooLarge(OutOfRange):
    """A graph has more parts than its bounds allow."""


class SymbolOutOfRange(OutOfRange):
    """A symbol's value is outside of the bounds that the graph declares."""


@dataclass(frozen=True, slots=True)
class Symbol:
    """A dimension that the job chooses, within bounds."""

    name: str
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Port:
    """A named tensor that enters or leaves the graph or a subgraph."""

    name: str
    type: TensorType


@dataclass(frozen=True, slots=True)
class SubgraphInput:
    """Read the subgraph's input number `index`."""

    index: int


@dataclass(frozen=True, slots=True)
class OperatorOutput:
    """Read the output of the subgraph's operator number `index`, an earlier one."""

    index: int


@dataclass(frozen=True, slots=True)
class Constant:
    """Read a constant of the graph, known by its tensor root."""

    root: bytes
    type: TensorType


Reference = SubgraphInput | OperatorOutput | Constant


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of a subgraph."""

    rule: OperatorRule
    label: str
    """What people call it, such as "attention.qkv.matmul"; committed, without effect on values."""
    tensors: tuple[Reference, ...]
    attributes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SubgraphOutput:
    """A named output and the operator that makes it."""

    port: Port
    operator: int


@dataclass(frozen=True, slots=True)
class Subgraph:
    """A DAG of operators between named tensors; operators stand in the order of execution."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[SubgraphOutput, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True, slots=True)
class MiningOperand:
    """The constant of one product that may be mined: B^T int8[n, k] under its tensor root."""

    operator: int
    root: bytes
    k: int
    n: int


@dataclass(frozen=True, slots=True)
class Hypergraph:
    """A checked graph. Operators are numbered 0 .. n - 1 through all subgraphs."""

    name: str
    symbols: tuple[Symbol, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[str, ...]
    subgraphs: tuple[Subgraph, ...]

    def operators(self) -> Iterator[tuple[int, Subgraph, Operator]]:
        """Yield (global index, subgraph, operator)."""
        index = 0
        for subgraph in self.subgraphs:
            for operator in subgraph.operators:
                yield index, subgraph, operator
                index += 1

    def operator_count(self) -> int:
        """Return the number of operators."""
        return sum(len(subgraph.operators) for subgraph in self.subgraphs)

    def constants(self) -> dict[bytes, tuple[str, TensorType]]:
        """Return root -> (name of its first use, type), in the order of first use."""
        found: dict[bytes, tuple[str, TensorType]] = {}
        for _, subgraph, operator in self.operators():
            for place, reference in enumerate(operator.tensors):
                if isinstance(reference, Constant):
                    found.setdefault(reference.root, (f"{subgraph.name}.{operator.label}[{place}]", reference.type))
        return found

    def mining_operands(self) -> tuple[MiningOperand, ...]:
        """Return the constants of the products that may be mined, by operator."""
        found = []
        for index, _, operator in self.operators():
            if operator.rule is MATMUL and operator.attributes[0]:
                weights = operator.tensors[1]
                if not isinstance(weights, Constant):
                    raise MiningOperandNotConstant(f"operator {index}", type(weights).__name__, "Constant")
                n, k = weights.type.at({})
                found.append(MiningOperand(index, weights.root, k, n))
        return tuple(found)

    def macs(self, symbols: Mapping[str, int]) -> int:
        """Return the multiply-accumulates of one execution."""
        return sum(term.at(symbols) for term in _collect(self, mining_only=False))

    def macs_terms(self) -> tuple[tuple[int, tuple[int, int, int, int]], ...]:
        """Return the MACs as a polynomial: (coefficient, exponent of each of the four symbols)."""
        return _polynomial(self, _collect(self, mining_only=False))

    def mining_macs_terms(self) -> tuple[tuple[int, tuple[int, int, int, int]], ...]:
        """Return the MACs of the products that may be mined, as `macs_terms`."""
        return _polynomial(self, _collect(self, mining_only=True))

    def check_symbols(self, values: Mapping[str, int]) -> None:
        """Refuse values that miss a symbol, name another or leave its bounds.

        Raises:
            UnknownSymbol, SymbolOutOfRange.
        """
        names = sorted(symbol.name for symbol in self.symbols)
        if names != sorted(values):
            raise UnknownSymbol("symbols", sorted(values), names)
        for symbol in self.symbols:
            if not symbol.low <= values[symbol.name] <= symbol.high:
                raise SymbolOutOfRange(symbol.name, values[symbol.name], f"{symbol.low} .. {symbol.high}")


class MiningOperandNotConstant(Mismatch):
    """A product is marked as mining, but its weights are no constant of the graph."""


def output_types(graph: Hypergraph) -> tuple[tuple[TensorType, ...], ...]:
    """Return for each subgraph the output type of each operator, all wiring checked.

    Raises:
        UnknownTensor, WrongArity, WrongDtype, WrongShape, AttributeOutOfRange, MiningOperandNotConstant.
    """
    edges = {port.name: port.type for port in graph.inputs}
    found = []
    for subgraph in graph.subgraphs:
        inputs = []
        for name in subgraph.inputs:
            if name not in edges:
                raise UnknownTensor(f"input of {subgraph.name}", name, sorted(edges))
            inputs.append(edges[name])
        types = _types_of(subgraph, inputs)
        for output in subgraph.outputs:
            if output.operator >= len(types):
                raise UnknownTensor(f"output of {subgraph.name}", output.operator, f"below {len(types)}")
            if types[output.operator] != output.port.type:
                raise WrongShape(f"{subgraph.name}.{output.port.name}", output.port.type, types[output.operator])
            edges[output.port.name] = output.port.type
        found.append(types)
    for name in graph.outputs:
        if name not in edges:
            raise UnknownTensor("output of the graph", name, sorted(edges))
    graph.mining_operands()
    return tuple(found)


def check_graph(graph: Hypergraph) -> None:
    """Refuse a graph that is not well formed.

    Raises:
        GraphTooLarge, DuplicateName, UnknownSymbol and all that `output_types` raises.
    """
    for what, parts, bound in (
        ("symbols", graph.symbols, SYMBOLS_MAX),
        ("inputs", graph.inputs, PORTS_MAX),
        ("outputs", graph.outputs, PORTS_MAX),
        ("subgraphs", graph.subgraphs, SUBGRAPHS_MAX),
    ):
        if not len(parts) <= bound:
            raise GraphTooLarge(what, len(parts), bound)
    for symbol in graph.symbols:
        if not 1 <= symbol.low <= symbol.high < 2**32:
            raise SymbolOutOfRange(symbol.name, (symbol.low, symbol.high), "1 <= low <= high < 2^32")
    outputs = [output.port for subgraph in graph.subgraphs for output in subgraph.outputs]
    _check_distinct("symbol", [symbol.name for symbol in graph.symbols])
    _check_distinct("tensor", [port.name for port in (*graph.inputs, *outputs)])
    _check_distinct("subgraph", [subgraph.name for subgraph in graph.subgraphs])
    _check_distinct("graph output", list(graph.outputs))
    for subgraph in graph.subgraphs:
        if not 1 <= len(subgraph.operators) <= OPERATORS_MAX:
            raise GraphTooLarge(f"operators of {subgraph.name}", len(subgraph.operators), f"1 .. {OPERATORS_MAX}")
    largest = {symbol.name: symbol.high for symbol in graph.symbols}
    for port in (*graph.inputs, *outputs):
        check_type(port.name, port.type, largest)
    for types, subgraph in zip(output_types(graph), graph.subgraphs, strict=True):
        for inferred, operator in zip(types, subgraph.operators, strict=True):
            check_type(f"{subgraph.name}.{operator.label}", inferred, largest)


def check_type(what: str, tensor: TensorType, largest: Mapping[str, int]) -> None:
    """Refuse a type that names an unknown symbol or may grow beyond 2^31 elements.

    Raises:
        UnknownSymbol, GraphTooLarge.
    """
    elements = 1
    for size in tensor.shape:
        if isinstance(size, str) and size not in largest:
            raise UnknownSymbol(what, size, sorted(largest))
        elements *= size if isinstance(size, int) else largest[size]
    if not 1 <= elements <= ELEMENTS_MAX:
        raise GraphTooLarge(f"elements of {what}", elements, f"1 .. {ELEMENTS_MAX}")


def _types_of(subgraph: Subgraph, inputs: list[TensorType]) -> tuple[TensorType, ...]:
    types: list[TensorType] = []
    for operator in subgraph.operators:
        tensors = []
        for reference in operator.tensors:
            if isinstance(reference, Constant):
                tensors.append(reference.type)
                continue
            source = inputs if isinstance(reference, SubgraphInput) else types
            if reference.index >= len(source):
                what = f"{subgraph.name}.{operator.label} reads {type(reference).__name__}"
                raise UnknownTensor(what, reference.index, f"below {len(source)}")
            tensors.append(source[reference.index])
        try:
            types.append(operator.rule.output_type(tensors, operator.attributes))
        except (Mismatch, OutOfRange) as error:
            error.what = f"{subgraph.name}.{operator.label}: {error.what}"
            raise
    return tuple(types)


def _collect(graph: Hypergraph, *, mining_only: bool) -> list[Term]:
    terms = []
    edges = {port.name: port.type for port in graph.inputs}
    for subgraph, types in zip(graph.subgraphs, output_types(graph), strict=True):
        inputs = [edges[name] for name in subgraph.inputs]
        for operator in subgraph.operators:
            if mining_only and not (operator.rule is MATMUL and operator.attributes[0]):
                continue
            tensors = [_type_of(reference, inputs, types) for reference in operator.tensors]
            term = operator.rule.multiplications(tensors, operator.attributes)
            if term is not None:
                terms.append(term)
        edges.update({output.port.name: output.port.type for output in subgraph.outputs})
    return terms


def _type_of(reference: Reference, inputs: list[TensorType], types: tuple[TensorType, ...]) -> TensorType:
    if isinstance(reference, Constant):
        return reference.type
    return inputs[reference.index] if isinstance(reference, SubgraphInput) else types[reference.index]


def _polynomial(graph: Hypergraph, terms: list[Term]) -> tuple[tuple[int, tuple[int, int, int, int]], ...]:
    names = [symbol.name for symbol in graph.symbols]
    collected: dict[tuple[int, int, int, int], int] = {}
    for term in terms:
        counts = [term.symbols.count(name) for name in names] + [0] * (SYMBOLS_MAX - len(names))
        exponents = (counts[0], counts[1], counts[2], counts[3])
        collected[exponents] = collected.get(exponents, 0) + term.coefficient
    return tuple((collected[exponents], exponents) for exponents in sorted(collected))


def _check_distinct(what: str, names: list[str]) -> None:
    seen: list[str] = sorted(names)
    for first, second in pairwise(seen):
        if first == second:
            raise DuplicateName(what, first, "distinct names")
