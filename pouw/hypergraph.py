"""The two-layer graph: subgraphs joined by named tensors, each a DAG of operators.

Decides what a well-formed graph is, its global operator indices, its mining operands and its MACs. A graph may be one
scan: a decoding loop over its top layer (ADR "scan"). Bytes are in `pouw/graph_encoding.py`, which also makes the ids.
Over 400 lines: what is well formed and what it costs are inferred from the same types.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from chain.errors import Mismatch, OutOfRange
from pouw.operators.errors import WrongShape
from pouw.operators.rules import MATMUL, OperatorRule
from pouw.operators.types import TensorType, Term
from pouw.scan import ROWS_SO_FAR, STEP_ROWS, BadScan, History, Scan, bound_steps, history_axis
from pouw.trace import INT32

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
    inputs: tuple[str | History, ...]
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
    scan: Scan | None = None

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
            if is_mining(operator):
                weights = operator.tensors[1]
                if not isinstance(weights, Constant):
                    raise MiningOperandNotConstant(f"operator {index}", type(weights).__name__, "Constant")
                n, k = weights.type.at({})
                found.append(MiningOperand(index, weights.root, k, n))
        return tuple(found)

    def macs(self, symbols: Mapping[str, int]) -> int:
        """Return the multiply-accumulates of one execution; with a scan the bound that `macs_terms` states."""
        return sum(term.at(symbols) for term in _bounds(self, _collect(self, mining_only=False)))

    def macs_terms(self) -> tuple[tuple[int, tuple[int, int, int, int]], ...]:
        """Return the MACs as a polynomial: (coefficient, exponent of each of the four symbols); see `bound_steps`."""
        return polynomial(self, _collect(self, mining_only=False))

    def mining_macs_terms(self) -> tuple[tuple[int, tuple[int, int, int, int]], ...]:
        """Return the MACs of the products that may be mined, as `macs_terms`."""
        return polynomial(self, _collect(self, mining_only=True))

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
    wired = zip(graph.subgraphs, subgraph_inputs(graph), strict=True)
    found = tuple(subgraph_types(subgraph, inputs) for subgraph, inputs in wired)
    graph.mining_operands()
    return found


def subgraph_inputs(graph: Hypergraph) -> tuple[tuple[TensorType, ...], ...]:
    """Return the types of each subgraph's inputs as the top layer declares them; no operator is asked for.

    Raises:
        UnknownTensor, BadScan, GraphTooLarge: the top layer's wiring is not sound.
    """
    edges = input_types(graph)
    found = []
    for subgraph in graph.subgraphs:
        found.append(tuple(_input_type(graph, subgraph, source, edges) for source in subgraph.inputs))
        edges.update({output.port.name: output.port.type for output in subgraph.outputs})
    for name in graph.outputs:
        if name not in edges:
            raise UnknownTensor("output of the graph", name, sorted(edges))
    if graph.scan is not None and edges.get(graph.scan.output) != TensorType(INT32, (1,)):
        raise BadScan("type of the scan's output", edges.get(graph.scan.output), "int32[1]")
    return tuple(found)


def subgraph_types(subgraph: Subgraph, inputs: Sequence[TensorType]) -> tuple[TensorType, ...]:
    """Return the output type of each operator of a subgraph; its outputs are those that the top layer declares.

    Raises:
        UnknownTensor, WrongArity, WrongDtype, WrongShape, AttributeOutOfRange.
    """
    types = _types_of(subgraph, inputs)
    for output in subgraph.outputs:
        if output.operator >= len(types):
            raise UnknownTensor(f"output of {subgraph.name}", output.operator, f"below {len(types)}")
        if types[output.operator] != output.port.type:
            raise WrongShape(f"{subgraph.name}.{output.port.name}", output.port.type, types[output.operator])
    return types


def operand_types(
    graph: Hypergraph, outputs: Sequence[tuple[TensorType, ...]]
) -> Iterator[tuple[Operator, tuple[TensorType, ...]]]:
    """Yield each operator in order, with the types of the tensors that it reads; `outputs` are its `output_types`."""
    for subgraph, types, inputs in zip(graph.subgraphs, outputs, subgraph_inputs(graph), strict=True):
        yield from subgraph_operand_types(subgraph, types, inputs)


def subgraph_operand_types(
    subgraph: Subgraph, types: Sequence[TensorType], inputs: Sequence[TensorType]
) -> Iterator[tuple[Operator, tuple[TensorType, ...]]]:
    """Yield each operator of one subgraph with the types that it reads; `types` are those that the operators make."""
    for operator in subgraph.operators:
        yield operator, tuple(_type_of(reference, inputs, types) for reference in operator.tensors)


def input_types(graph: Hypergraph) -> dict[str, TensorType]:
    """Return the graph's inputs as its subgraphs see them: the prompt of a scan has R rows."""
    types = {port.name: port.type for port in graph.inputs}
    if graph.scan is not None and graph.scan.input in types:
        types[graph.scan.input] = TensorType(INT32, (STEP_ROWS,))
    return types


def check_graph(graph: Hypergraph) -> tuple[tuple[TensorType, ...], ...]:
    """Refuse a graph that is not well formed; return its `output_types`.

    Raises:
        GraphTooLarge, DuplicateName, UnknownSymbol and all that `output_types` raises.
    """
    wired = check_wiring(graph, [len(subgraph.operators) for subgraph in graph.subgraphs])
    largest = largest_sizes(graph)
    found = tuple(
        check_subgraph(subgraph, inputs, largest) for subgraph, inputs in zip(graph.subgraphs, wired, strict=True)
    )
    graph.mining_operands()
    return found


def check_wiring(graph: Hypergraph, operator_counts: Sequence[int]) -> tuple[tuple[TensorType, ...], ...]:
    """Refuse a top layer that is not well formed, whatever its operators are; return its `subgraph_inputs`.

    The graph's operators need not be there: `operator_counts` says how many each subgraph has. A top layer that passes
    and subgraphs of which each passes `check_subgraph` are a well-formed graph.

    Raises:
        GraphTooLarge, DuplicateName, SymbolOutOfRange, UnknownSymbol, UnknownTensor, BadScan.
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
    for subgraph, count in zip(graph.subgraphs, operator_counts, strict=True):
        if not 1 <= count <= OPERATORS_MAX:
            raise GraphTooLarge(f"operators of {subgraph.name}", count, f"1 .. {OPERATORS_MAX}")
    largest = largest_sizes(graph)
    for port in outputs:
        check_type(port.name, port.type, largest)
    return subgraph_inputs(graph)


def check_subgraph(
    subgraph: Subgraph, inputs: Sequence[TensorType], largest: Mapping[str, int]
) -> tuple[TensorType, ...]:
    """Refuse a subgraph that is not what its top layer declares; return its `subgraph_types`.

    `inputs` are the types of its inputs, `largest` the graph's `largest_sizes`. Whether what may be mined are constants
    is not asked here.

    Raises:
        GraphTooLarge, UnknownSymbol and all that `subgraph_types` raises.
    """
    types = subgraph_types(subgraph, inputs)
    for inferred, operator in zip(types, subgraph.operators, strict=True):
        check_type(f"{subgraph.name}.{operator.label}", inferred, largest)
    return types


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


def largest_sizes(graph: Hypergraph) -> dict[str, int]:
    """Return the largest value of each dimension: R is the prompt's, H all rows of the last step.

    Raises:
        UnknownSymbol, GraphTooLarge, BadScan, SymbolOutOfRange: the graph's inputs and scan are checked.
    """
    largest = {symbol.name: symbol.high for symbol in graph.symbols}
    for port in graph.inputs:
        check_type(port.name, port.type, largest)
    return largest if graph.scan is None else largest | _check_scan(graph, graph.scan, largest)


def _check_scan(graph: Hypergraph, scan: Scan, largest: Mapping[str, int]) -> dict[str, int]:
    """Return the largest values of R and H."""
    for reserved in (STEP_ROWS, ROWS_SO_FAR):
        if reserved in largest:
            raise BadScan("symbol", reserved, "another name than R and H, which a scan reserves")
    prompt = next((port.type for port in graph.inputs if port.name == scan.input), None)
    if prompt is None or prompt.dtype != INT32 or len(prompt.shape) != 1 or not isinstance(prompt.shape[0], str):
        raise BadScan("scan's input", prompt, "an input int32[symbol]")
    if scan.limit not in largest or scan.limit == prompt.shape[0]:
        raise BadScan("scan's limit", scan.limit, "a symbol that is not the prompt's")
    if any(port.name == scan.output for port in graph.inputs):
        raise BadScan("scan's output", scan.output, "a tensor that a subgraph makes")
    if graph.outputs != (scan.output,):
        raise BadScan("graph's outputs", graph.outputs, (scan.output,))
    if not -1 <= scan.stop < 2**31:
        raise SymbolOutOfRange("scan's stop", scan.stop, "-1 .. 2^31 - 1")
    rows = largest[prompt.shape[0]]
    return {STEP_ROWS: rows, ROWS_SO_FAR: rows + largest[scan.limit] - 1}


def _input_type(
    graph: Hypergraph, subgraph: Subgraph, source: str | History, edges: Mapping[str, TensorType]
) -> TensorType:
    name = source.name if isinstance(source, History) else source
    if name not in edges:
        raise UnknownTensor(f"input of {subgraph.name}", name, sorted(edges))
    if not isinstance(source, History):
        return edges[name]
    if graph.scan is None:
        raise BadScan(f"input of {subgraph.name}", f"history of {name}", "no history without a scan")
    axis = history_axis(name, edges[name])
    shape = edges[name].shape
    return TensorType(edges[name].dtype, (*shape[:axis], ROWS_SO_FAR, *shape[axis + 1 :]))


def _types_of(subgraph: Subgraph, inputs: Sequence[TensorType]) -> tuple[TensorType, ...]:
    types: list[TensorType] = []
    for operator in subgraph.operators:
        tensors = []
        for reference in operator.tensors:
            if isinstance(reference, Constant):
                if not all(isinstance(size, int) for size in reference.type.shape):
                    raise WrongShape(f"constant of {subgraph.name}.{operator.label}", reference.type, "numbers")
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
    for operator, tensors in operand_types(graph, output_types(graph)):
        if mining_only and not is_mining(operator):
            continue
        term = operator.rule.multiplications(tensors, operator.attributes)
        if term is not None:
            terms.append(term)
    return terms


def is_mining(operator: Operator) -> bool:
    """Return whether tickets may be drawn from this product."""
    return operator.rule is MATMUL and bool(operator.attributes[0])


def _type_of(reference: Reference, inputs: Sequence[TensorType], types: Sequence[TensorType]) -> TensorType:
    if isinstance(reference, Constant):
        return reference.type
    return inputs[reference.index] if isinstance(reference, SubgraphInput) else types[reference.index]


def polynomial(graph: Hypergraph, terms: list[Term]) -> tuple[tuple[int, tuple[int, int, int, int]], ...]:
    """Return MACs of operators, in the sizes of one step, as a polynomial in the graph's symbols, as `macs_terms`."""
    names = [symbol.name for symbol in graph.symbols]
    collected: dict[tuple[int, int, int, int], int] = {}
    for term in _bounds(graph, terms):
        counts = [term.symbols.count(name) for name in names] + [0] * (SYMBOLS_MAX - len(names))
        exponents = (counts[0], counts[1], counts[2], counts[3])
        collected[exponents] = collected.get(exponents, 0) + term.coefficient
    return tuple((collected[exponents], exponents) for exponents in sorted(collected))


def _bounds(graph: Hypergraph, terms: list[Term]) -> list[Term]:
    if graph.scan is None:
        return terms
    prompt = next(port.type.shape[0] for port in graph.inputs if port.name == graph.scan.input)
    return bound_steps(terms, str(prompt), graph.scan.limit)


def _check_distinct(what: str, names: list[str]) -> None:
    seen: list[str] = sorted(names)
    for first, second in pairwise(seen):
        if first == second:
            raise DuplicateName(what, first, "distinct names")
