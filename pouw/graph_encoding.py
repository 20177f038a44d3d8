"""The one encoding of a hypergraph, its commitments and its id.

The top layer stands on chain; the second layer is known there by one root for each subgraph. A graph is data:
`decode` is safe for a stranger's bytes (every count bounded, no recursion, no operator reads a later one).
Integers are little-endian. Over 400 lines: one file holds every byte of a graph.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import unpack
from typing import TypeVar

from chain.errors import Malformed, Mismatch
from chain.hashing import H
from pouw.hypergraph import (
    OPERATORS_MAX,
    PORTS_MAX,
    SUBGRAPHS_MAX,
    SYMBOLS_MAX,
    Constant,
    GraphTooLarge,
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
from pouw.operators.rules import RULE_BY_CODE
from pouw.operators.types import Dimension, TensorType
from pouw.scan import ROWS_SO_FAR, STEP_ROWS, History, Scan
from pouw.trace import UnknownDType, dtype_by_code

Part = TypeVar("Part")

VERSION, SCAN_VERSION = 1, 2  # 2: dimensions R and H, histories, and the scan behind the subgraphs
TOP_LAYER_MAX = 24_576  # GraphRegistry's bound
GRAPH_BYTES_MAX = 2**22
RANK_MAX = 4
TENSORS_MAX = 16
ATTRIBUTES_MAX = 16
_NAME = re.compile(rb"[a-z0-9_.\-]{1,64}|[A-Z]")
_INPUT, _OUTPUT, _CONSTANT = 0, 1, 2
_NOW, _HISTORY = 0, 1
_SCAN_DIMENSIONS = {STEP_ROWS: 2, ROWS_SO_FAR: 3}


@dataclass(frozen=True, slots=True)
class SubgraphHead:
    """What the top layer says of a subgraph."""

    name: str
    inputs: tuple[str | History, ...]
    outputs: tuple[SubgraphOutput, ...]
    operators_root: bytes
    operator_count: int


@dataclass(frozen=True, slots=True)
class TopLayer:
    """What stands on chain of a graph; that its wiring is sound was checked when it was registered."""

    name: str
    symbols: tuple[Symbol, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[str, ...]
    subgraphs: tuple[SubgraphHead, ...]
    scan: Scan | None

    @property
    def symbol_names(self) -> list[str]:
        """Names of the symbols, as types refer to them."""
        return [symbol.name for symbol in self.symbols]


@dataclass(frozen=True, slots=True)
class GraphPart:
    """A top layer and the operators of some of its subgraphs."""

    top_layer: bytes
    graph: Hypergraph
    """Not checked; has no operators outside of the part."""
    counts: tuple[int, ...]
    """The number of operators of each subgraph of the graph."""
    first: int
    """The part has the subgraphs from this number on…"""
    end: int
    """…up to this one, which is the next part's first."""


class GraphMalformed(Malformed):
    """Bytes that are no graph."""


class GraphTruncated(GraphMalformed):
    """The bytes end within a field."""


class TrailingBytes(GraphMalformed):
    """Bytes follow the graph."""


class BadName(GraphMalformed):
    """A name is empty, too long or has other characters than a-z 0-9 _ . - (or one capital letter)."""


class UnknownVersion(GraphMalformed):
    """The encoding has a version that this node does not know."""


class UnknownOperator(GraphMalformed):
    """An operator's code is in no rule."""


class UnknownTag(GraphMalformed):
    """A tag byte (dimension, reference, dtype) has no meaning."""


class OperatorsRootMismatch(Mismatch):
    """The operators are not those that the top layer commits to."""


@dataclass(slots=True)
class _Reader:
    data: bytes
    position: int = 0
    scans: bool = False
    """Whether the graph is of the version that has a scan."""

    def take(self, size: int, what: str) -> bytes:
        part = self.data[self.position : self.position + size]
        if len(part) != size:
            raise GraphTruncated(what, f"needs {size} bytes at {self.position}, has {len(part)}")
        self.position += size
        return part

    def number(self, size: int, what: str) -> int:
        return int.from_bytes(self.take(size, what), "little")

    def count(self, size: int, what: str, bound: int) -> int:
        value = self.number(size, what)
        if value > bound:
            raise GraphTooLarge(what, value, bound)
        return value

    def name(self, what: str) -> str:
        raw = self.take(self.number(1, what), what)
        if not _NAME.fullmatch(raw):
            raise BadName(what, raw.hex())
        return raw.decode("ascii")

    def end(self, what: str) -> None:
        if self.position != len(self.data):
            raise TrailingBytes(what, f"{len(self.data) - self.position} bytes after the end")


def encode_top_layer(graph: Hypergraph) -> bytes:
    """Return the bytes that stand on chain.

    Raises:
        GraphTooLarge: more than 24,576 bytes.
    """
    names = [symbol.name for symbol in graph.symbols]
    version = VERSION if graph.scan is None else SCAN_VERSION
    out = [bytes([version]), _name(graph.name), bytes([len(graph.symbols)])]
    out += [_name(symbol.name) + _u32(symbol.low) + _u32(symbol.high) for symbol in graph.symbols]
    out.append(bytes([len(graph.inputs)]))
    out += [_port(port, names) for port in graph.inputs]
    out.append(bytes([len(graph.outputs)]))
    out += [_name(name) for name in graph.outputs]
    out.append(len(graph.subgraphs).to_bytes(2, "little"))
    for subgraph in graph.subgraphs:
        out += [_name(subgraph.name), bytes([len(subgraph.inputs)])]
        out += [_source(source, scans=graph.scan is not None) for source in subgraph.inputs]
        out.append(bytes([len(subgraph.outputs)]))
        out += [_port(output.port, names) + _u32(output.operator) for output in subgraph.outputs]
        out += [operators_root(subgraph, names), _u32(len(subgraph.operators))]
    if graph.scan is not None:
        out += [_name(graph.scan.input), _name(graph.scan.output)]
        out += [graph.scan.stop.to_bytes(4, "little", signed=True), bytes([names.index(graph.scan.limit)])]
    encoded = b"".join(out)
    if len(encoded) > TOP_LAYER_MAX:
        raise GraphTooLarge("top layer", len(encoded), TOP_LAYER_MAX)
    return encoded


def compute_graph_id(top_layer: bytes) -> bytes:
    """Return H("hypergraph", top layer), the graph's name on chain."""
    return H("hypergraph", top_layer)


def encode(graph: Hypergraph) -> bytes:
    """Return the graph file: the top layer behind its length (u32), then every operator in order."""
    top_layer = encode_top_layer(graph)
    names = [symbol.name for symbol in graph.symbols]
    operators = [encode_operator(operator, names) for _, _, operator in graph.operators()]
    return b"".join((_u32(len(top_layer)), top_layer, *operators))


def encode_operator(operator: Operator, symbols: list[str]) -> bytes:
    """Return the bytes of one operator: a leaf of its subgraph's root."""
    out = [bytes([operator.rule.code]), _name(operator.label), bytes([len(operator.tensors)])]
    for reference in operator.tensors:
        if isinstance(reference, Constant):
            out.append(bytes([_CONSTANT]) + reference.root + _type(reference.type, symbols))
        else:
            tag = _INPUT if isinstance(reference, SubgraphInput) else _OUTPUT
            out.append(bytes([tag]) + _u32(reference.index))
    out.append(bytes([len(operator.attributes)]))
    out += [value.to_bytes(8, "little", signed=True) for value in operator.attributes]
    return b"".join(out)


def operators_root(subgraph: Subgraph, symbols: list[str]) -> bytes:
    """Return the Merkle root over the operators; an odd node moves up unchanged (the count is in the top layer)."""
    return _root_of([encode_operator(operator, symbols) for operator in subgraph.operators])


def _root_of(encoded: list[bytes]) -> bytes:
    level = [H("operator", operator) for operator in encoded]
    while len(level) > 1:
        level = _pair(level)
    return H("subgraph", level[0])


def _pair(level: list[bytes]) -> list[bytes]:
    paired = [H("operators", level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return paired + level[len(paired) * 2 :]


def decode(data: bytes) -> Hypergraph:
    """Return the checked graph of a graph file.

    Raises:
        What `read_graph` and `check_graph` raise.
    """
    graph = read_graph(data)
    check_graph(graph)
    return graph


def read_graph(data: bytes) -> Hypergraph:
    """Return the graph that a file says, its operators under their roots, not yet checked by `check_graph`.

    Raises:
        GraphMalformed and its kinds, GraphTooLarge, OperatorsRootMismatch.
    """
    part = read_part(data, 0)
    if part.end != len(part.counts):
        raise GraphTruncated("graph file", f"has {part.end} subgraphs of {len(part.counts)}")
    return part.graph


def read_part(data: bytes, first: int, operators_max: int = GRAPH_BYTES_MAX) -> GraphPart:
    """Return a part of a graph: as a graph file, but with whole subgraphs from number `first` on, as many as there are.

    Raises:
        GraphMalformed and its kinds, GraphTooLarge, OperatorsRootMismatch.
    """
    if len(data) > GRAPH_BYTES_MAX:
        raise GraphTooLarge("graph file", len(data), GRAPH_BYTES_MAX)
    reader = _Reader(data)
    encoded = reader.take(reader.count(4, "top layer", TOP_LAYER_MAX), "top layer")
    top = decode_top_layer(encoded)
    counts = tuple(head.operator_count for head in top.subgraphs)
    subgraphs = [Subgraph(head.name, head.inputs, head.outputs, ()) for head in top.subgraphs]
    if first > len(counts):
        raise GraphTooLarge("first subgraph of a part", first, len(counts))
    end, operators = first, 0
    while end < len(subgraphs) and reader.position < len(data):
        operators += counts[end]
        if operators > operators_max:
            raise GraphTooLarge("operators", operators, operators_max)
        subgraphs[end] = _read_operators(reader, top.subgraphs[end], top.symbol_names)
        end += 1
    reader.end("graph file")
    graph = Hypergraph(top.name, top.symbols, top.inputs, top.outputs, tuple(subgraphs), top.scan)
    return GraphPart(encoded, graph, counts, first, end)


def decode_top_layer(data: bytes) -> TopLayer:
    """Return what a top layer says; whether it is a sound graph's is not asked here.

    Raises:
        GraphMalformed and its kinds, GraphTooLarge.
    """
    if len(data) > TOP_LAYER_MAX:
        raise GraphTooLarge("top layer", len(data), TOP_LAYER_MAX)
    top = _Reader(data)
    version = top.number(1, "version")
    if version not in {VERSION, SCAN_VERSION}:
        raise UnknownVersion("graph", f"version {version}, not {VERSION} or {SCAN_VERSION}")
    top.scans = version == SCAN_VERSION
    name = top.name("graph name")
    symbols = _many(top, 1, "symbols", SYMBOLS_MAX, _read_symbol)
    names = [symbol.name for symbol in symbols]
    inputs = _many(top, 1, "inputs", PORTS_MAX, lambda part: _read_port(part, names))
    outputs = _many(top, 1, "outputs", PORTS_MAX, lambda part: part.name("output"))
    subgraphs = _many(top, 2, "subgraphs", SUBGRAPHS_MAX, lambda part: _read_head(part, names))
    scan = _read_scan(top, names) if top.scans else None
    top.end("top layer")
    return TopLayer(name, symbols, inputs, outputs, subgraphs, scan)


def decode_operator(data: bytes, symbols: list[str]) -> Operator:
    """Return the operator of a leaf of its subgraph's root; `symbols` are the graph's names.

    Raises:
        GraphMalformed and its kinds, GraphTooLarge.
    """
    reader = _Reader(data)
    operator = _read_operator(reader, symbols)
    reader.end("operator")
    return operator


def operator_siblings(subgraph: Subgraph, symbols: list[str], place: int) -> tuple[bytes, ...]:
    """Return the hashes that lead from an operator to the subgraph's root, from below."""
    level = [H("operator", encode_operator(operator, symbols)) for operator in subgraph.operators]
    siblings = []
    while len(level) > 1:
        if place ^ 1 < len(level):
            siblings.append(level[place ^ 1])
        level, place = _pair(level), place // 2
    return tuple(siblings)


def root_of_operator(data: bytes, place: int, count: int, siblings: Sequence[bytes]) -> bytes | None:
    """Return the operators root that an operator's bytes and siblings lead to; None if their number does not fit."""
    found, rest = H("operator", data), list(siblings)
    while count > 1:
        if place ^ 1 < count:
            if not rest:
                return None
            other = rest.pop(0)
            found = H("operators", other, found) if place & 1 else H("operators", found, other)
        place, count = place // 2, (count + 1) // 2
    return None if rest else H("subgraph", found)


def _many(reader: _Reader, size: int, what: str, bound: int, read: Callable[[_Reader], Part]) -> tuple[Part, ...]:
    return tuple(read(reader) for _ in range(reader.count(size, what, bound)))


def _read_symbol(reader: _Reader) -> Symbol:
    return Symbol(reader.name("symbol"), reader.number(4, "symbol's low"), reader.number(4, "symbol's high"))


def _read_port(reader: _Reader, symbols: list[str]) -> Port:
    return Port(reader.name("tensor"), _read_type(reader, symbols))


def _read_type(reader: _Reader, symbols: list[str]) -> TensorType:
    code = reader.number(1, "dtype")
    try:
        dtype = dtype_by_code(code)
    except UnknownDType as error:
        raise UnknownTag("dtype", str(code)) from error
    return TensorType(dtype, _many(reader, 1, "rank", RANK_MAX, lambda part: _read_dimension(part, symbols)))


def _read_dimension(reader: _Reader, symbols: list[str]) -> Dimension:
    tag, value = reader.number(1, "dimension"), reader.number(4, "dimension")
    if tag == 0:
        return value
    if tag == 1 and value < len(symbols):
        return symbols[value]
    if reader.scans and value == 0:
        for name, known in _SCAN_DIMENSIONS.items():
            if tag == known:
                return name
    raise UnknownTag("dimension", f"tag {tag}, value {value}")


def _read_head(top: _Reader, symbols: list[str]) -> SubgraphHead:
    name = top.name("subgraph")
    inputs = _many(top, 1, "subgraph inputs", PORTS_MAX, _read_source)
    outputs = _many(
        top,
        1,
        "subgraph outputs",
        PORTS_MAX,
        lambda part: SubgraphOutput(_read_port(part, symbols), part.number(4, "output's operator")),
    )
    root = top.take(32, "operators root")
    count = top.count(4, "operators", OPERATORS_MAX)
    if count == 0:
        raise GraphTooLarge(f"operators of {name}", 0, f"1 .. {OPERATORS_MAX}")
    return SubgraphHead(name, inputs, outputs, root, count)


def _read_operators(reader: _Reader, head: SubgraphHead, symbols: list[str]) -> Subgraph:
    operators, encoded = [], []
    for _ in range(head.operator_count):
        start = reader.position
        operators.append(_read_operator(reader, symbols))
        encoded.append(reader.data[start : reader.position])
    root = _root_of(encoded)
    if root != head.operators_root:
        raise OperatorsRootMismatch(head.name, root, head.operators_root)
    return Subgraph(head.name, head.inputs, head.outputs, tuple(operators))


def _read_source(reader: _Reader) -> str | History:
    tag = reader.number(1, "subgraph input") if reader.scans else _NOW
    if tag not in {_NOW, _HISTORY}:
        raise UnknownTag("subgraph input", str(tag))
    name = reader.name("subgraph input")
    return name if tag == _NOW else History(name)


def _read_scan(reader: _Reader, symbols: list[str]) -> Scan:
    prompt, output = reader.name("scan's input"), reader.name("scan's output")
    stop = int.from_bytes(reader.take(4, "scan's stop"), "little", signed=True)
    limit = reader.number(1, "scan's limit")
    if limit >= len(symbols):
        raise UnknownTag("scan's limit", f"symbol {limit}")
    return Scan(prompt, output, stop, symbols[limit])


def _read_operator(reader: _Reader, symbols: list[str]) -> Operator:
    code = reader.number(1, "operator")
    if code not in RULE_BY_CODE:
        raise UnknownOperator("operator", f"code {code}")
    label = reader.name("operator's label")
    count = reader.count(1, "operator's tensors", TENSORS_MAX)
    tensors = tuple([_read_reference(reader, symbols) for _ in range(count)])
    count = reader.count(1, "attributes", ATTRIBUTES_MAX)
    values = reader.take(8 * count, "attributes")
    return Operator(RULE_BY_CODE[code], label, tensors, unpack(f"<{count}q", values))


def _read_reference(reader: _Reader, symbols: list[str]) -> Reference:
    tag = reader.number(1, "reference")
    if tag == _INPUT:
        return SubgraphInput(reader.number(4, "input"))
    if tag == _OUTPUT:
        return OperatorOutput(reader.number(4, "operator output"))
    if tag == _CONSTANT:
        return Constant(reader.take(32, "constant's root"), _read_type(reader, symbols))
    raise UnknownTag("reference", str(tag))


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _name(name: str) -> bytes:
    raw = name.encode("ascii", "replace")
    if not _NAME.fullmatch(raw):
        raise BadName("name", name)
    return bytes([len(raw)]) + raw


def _type(tensor: TensorType, symbols: list[str]) -> bytes:
    out = [bytes([tensor.dtype.code, len(tensor.shape)])]
    out += [_dimension(size, symbols) for size in tensor.shape]
    return b"".join(out)


def _dimension(size: Dimension, symbols: list[str]) -> bytes:
    if isinstance(size, int):
        return b"\0" + _u32(size)
    if size in _SCAN_DIMENSIONS and size not in symbols:
        return bytes([_SCAN_DIMENSIONS[size]]) + _u32(0)
    return b"\1" + _u32(symbols.index(size))


def _source(source: str | History, *, scans: bool) -> bytes:
    if isinstance(source, History):
        return bytes([_HISTORY]) + _name(source.name)
    return (bytes([_NOW]) if scans else b"") + _name(source)


def _port(port: Port, symbols: list[str]) -> bytes:
    return _name(port.name) + _type(port.type, symbols)
