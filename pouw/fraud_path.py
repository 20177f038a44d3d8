"""What an accused committed to: a `Path` checked against graph id, trace root and the hashes of input and output.

Everything that a verdict rests on comes from here: roots under the trace root, the graph's wiring and types at the
job's symbols, the job's bytes. Which root an input has is decided by the graph alone.
"""

from dataclasses import dataclass, field
from math import prod
from typing import TypeVar

from chain.errors import Mismatch, OutOfRange
from chain.hashing import H, keccak256
from pouw.fraud_codec import Path
from pouw.fraud_types import Facts, NotCommitted, Outside
from pouw.graph_encoding import SubgraphHead, TopLayer, compute_graph_id, decode_top_layer
from pouw.hypergraph import ELEMENTS_MAX
from pouw.operators.types import TensorType
from pouw.scan import ROWS_SO_FAR, STEP_ROWS, History, Scan, history_axis
from pouw.trace import INT32

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor that an operator reads: its type without symbols, and its root or its bytes."""

    type: TensorType
    root: bytes = b""
    data: bytes | None = None
    """Of a job's input: known as a whole."""


@dataclass(slots=True)
class Committed:
    """A checked path. Build with `check_path`."""

    facts: Facts
    path: Path
    top: TopLayer
    symbols: dict[str, int]
    steps: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    ports: dict[tuple[int, int], tuple[bytes, ...]] = field(default_factory=dict)

    def trace_children(self) -> tuple[bytes, ...]:
        """Return what the trace root covers.

        Raises:
            NotCommitted: the path does not show it.
        """
        if self.path.trace_children is None:
            raise NotCommitted("trace's children", "none", "shown")
        return self.path.trace_children

    def check_step(self, step: int) -> None:
        """Refuse a step that the trace does not have.

        Raises:
            NotCommitted: the path does not show the trace's children. Outside.
        """
        at(self.trace_children() if self.top.scan is not None else (b"",), step, "step")

    def step_children(self, step: int) -> tuple[bytes, ...]:
        """Return the roots of a step's subgraphs.

        Raises:
            NotCommitted: the path does not show them. Outside: no such step without a scan.
        """
        if self.top.scan is None:
            if step:
                raise Outside("step", step, 0)
            return self.trace_children()
        if step not in self.steps:
            raise NotCommitted(f"children of step {step}", "none", "shown")
        return self.steps[step]

    def port_roots(self, step: int, subgraph: int) -> tuple[bytes, ...]:
        """Return the roots of a subgraph's outputs.

        Raises:
            NotCommitted: the path does not show them.
        """
        if (step, subgraph) not in self.ports:
            raise NotCommitted(f"ports of step {step}, subgraph {subgraph}", "none", "shown")
        return self.ports[step, subgraph]

    def head(self, subgraph: int) -> SubgraphHead:
        """Return what the top layer says of a subgraph.

        Raises:
            Outside
        """
        return at(self.top.subgraphs, subgraph, "subgraph")

    def first_operator(self, subgraph: int) -> int:
        """Return the global index of a subgraph's first operator."""
        return sum(head.operator_count for head in self.top.subgraphs[:subgraph])

    def symbols_at(self, step: int) -> dict[str, int]:
        """Return the symbols' values in a step.

        Raises:
            Outside: the scan has not so many steps.
        """
        scan = self.top.scan
        if scan is None:
            return self.symbols
        if step >= self.symbols.get(scan.limit, 0):
            raise Outside("step", step, f"below {scan.limit}")
        rows = self.prompt_rows(scan)
        return {**self.symbols, STEP_ROWS: rows if step == 0 else 1, ROWS_SO_FAR: rows + step}

    def prompt_rows(self, scan: Scan) -> int:
        """Return the rows of step 0.

        Raises:
            Outside: the scan reads no input.
        """
        for port in self.top.inputs:
            if port.name == scan.input and len(port.type.shape) == 1:
                return port.type.at(self.symbols)[0]
        raise Outside("scan's input", scan.input, "an input with one dimension")

    def tensor(self, step: int, before: int, name: str) -> Source:
        """Return the tensor of a name, as subgraph number `before` reads it in a step.

        Raises:
            NotCommitted: the path does not show its root. Outside: nothing before it makes such a tensor.
        """
        scan = self.top.scan
        start = 0
        for port in self.top.inputs:
            if port.name == name:
                if scan is not None and name == scan.input and step > 0:
                    return self._made(step - 1, len(self.top.subgraphs), scan.output)
                found = concrete(port.type, self.symbols)
                return Source(found, data=self.job_input()[start : start + size_of(found)])
            start += size_of(concrete(port.type, self.symbols))
        return self._made(step, before, name)

    def _made(self, step: int, before: int, name: str) -> Source:
        for subgraph, head in enumerate(self.top.subgraphs[:before]):
            for place, output in enumerate(head.outputs):
                if output.port.name == name:
                    root = at(self.port_roots(step, subgraph), place, "port")
                    return Source(concrete(output.port.type, self.symbols_at(step)), root)
        raise Outside("tensor", name, f"made before subgraph {before}")

    def job_input(self) -> bytes:
        """Return the job's input, of the size that the graph's types say.

        Raises:
            NotCommitted: the path does not show it, or it has another size.
        """
        data = self.path.job_input
        size = sum(size_of(concrete(port.type, self.symbols)) for port in self.top.inputs)
        if data is None or len(data) != size:
            raise NotCommitted("bytes of input", "none" if data is None else len(data), size)
        return data

    def input(self, step: int, subgraph: int, place: int) -> Source:
        """Return what a subgraph reads as its input number `place`.

        Raises:
            NotCommitted, Outside.
        """
        head = self.head(subgraph)
        source = at(head.inputs, place, "subgraph's input")
        if not isinstance(source, History):
            return self.tensor(step, subgraph, source)
        return Source(self.history_type(step, subgraph, source), self.listed(self.history_place(subgraph, place)))

    def history_place(self, subgraph: int, place: int) -> int:
        """Return where an operator list holds the history that is input number `place`."""
        head = self.head(subgraph)
        earlier = sum(isinstance(source, History) for source in head.inputs[:place])
        return head.operator_count + earlier

    def history_type(self, step: int, subgraph: int, source: History) -> TensorType:
        """Return the type of a joined history.

        Raises:
            Outside: the graph has no such tensor, or no steps.
        """
        symbols = self.symbols_at(step)
        found = self.type_of(subgraph, source.name)
        if self.top.scan is None:
            raise Outside("history", source.name, "none without a scan")
        axis = axis_of(source.name, found)
        return concrete(
            TensorType(found.dtype, (*found.shape[:axis], symbols[ROWS_SO_FAR], *found.shape[axis + 1 :])), symbols
        )

    def type_of(self, before: int, name: str) -> TensorType:
        """Return the type of a named tensor, with symbols, as subgraph number `before` sees it.

        Raises:
            Outside: nothing before it makes such a tensor.
        """
        scan = self.top.scan
        for port in self.top.inputs:
            if port.name == name:
                return TensorType(INT32, (STEP_ROWS,)) if scan is not None and name == scan.input else port.type
        for head in self.top.subgraphs[:before]:
            for output in head.outputs:
                if output.port.name == name:
                    return output.port.type
        raise Outside("tensor", name, f"made before subgraph {before}")

    def listed(self, place: int) -> bytes:
        """Return a root of the operator list.

        Raises:
            NotCommitted: the path shows none. Outside: it is shorter.
        """
        if self.path.operators is None:
            raise NotCommitted("operator list", "none", "shown")
        return at(self.path.operators, place, "operator list")

    def operator_root(self, step: int, subgraph: int, operator: int) -> bytes:
        """Return the root of an operator's output: from the list where one is shown, else a port's.

        Raises:
            NotCommitted: it is no port, and there is no list. Outside.
        """
        if self.path.operators is not None:
            return self.listed(operator)
        for place, output in enumerate(self.head(subgraph).outputs):
            if output.operator == operator:
                return at(self.port_roots(step, subgraph), place, "port")
        raise NotCommitted(f"operator {operator}", "no list", "a list, or a port")

    def check_list(self, step: int, subgraph: int, listed: tuple[bytes, ...]) -> None:
        """Refuse an operator list that has another length than the graph says, or does not give the committed ports.

        Raises:
            NotCommitted, Outside.
        """
        head = self.head(subgraph)
        length = self.history_place(subgraph, len(head.inputs))
        if len(listed) != length:
            raise NotCommitted("roots of an operator list", len(listed), length)
        ports = self.port_roots(step, subgraph)
        for place, output in enumerate(head.outputs):
            _equal(f"port {output.port.name}", at(listed, output.operator, "operator"), at(ports, place, "port"))

    def list_hash(self) -> bytes:
        """Return keccak256 of the operator list; zeros where none is shown."""
        return bytes(32) if self.path.operators is None else keccak256(b"".join(self.path.operators))


def check_path(facts: Facts, path: Path) -> Committed:
    """Check that every part of a path hashes to what stands above it.

    Raises:
        NotCommitted, Outside, and what `decode_top_layer` raises.
    """
    _equal("graph id", compute_graph_id(path.top_layer), facts.graph)
    top = decode_top_layer(path.top_layer)
    if len(top.symbols) != len(facts.symbols):
        raise Outside("symbols", len(facts.symbols), len(top.symbols))
    committed = Committed(facts, path, top, dict(zip(top.symbol_names, facts.symbols, strict=True)))
    if path.trace_children is not None:
        _equal("trace root", H("trace", *path.trace_children), facts.trace_root)
    if path.job_input is not None:
        _equal("input", keccak256(path.job_input), facts.input_hash)
    if path.job_output is not None:
        _equal("output", keccak256(path.job_output), facts.output_hash)
    for step, roots in path.steps:
        if top.scan is None:
            raise Outside("step", step, "no steps without a scan")
        _equal(f"step {step}", H("step", *roots), at(committed.trace_children(), step, "step"))
        committed.steps[step] = roots
    for step, subgraph, roots in path.ports:
        above = at(committed.step_children(step), subgraph, "subgraph")
        _equal(f"step {step}, subgraph {subgraph}", H("subgraph-outputs", *roots), above)
        committed.ports[step, subgraph] = roots
    return committed


def at(items: tuple[Item, ...], place: int, what: str) -> Item:
    """Return one of several.

    Raises:
        Outside: there are fewer.
    """
    if not 0 <= place < len(items):
        raise Outside(what, place, f"below {len(items)}")
    return items[place]


def concrete(found: TensorType, symbols: dict[str, int]) -> TensorType:
    """Return a type with its symbols replaced.

    Raises:
        Outside: a dimension without a value, or more elements than a graph's tensor may have.
    """
    for size in found.shape:
        if isinstance(size, str) and size not in symbols:
            raise Outside("dimension", size, sorted(symbols))
    shape = found.at(symbols)
    if not 1 <= prod(shape) <= ELEMENTS_MAX:
        raise Outside("elements", prod(shape), f"1 .. {ELEMENTS_MAX}")
    return TensorType(found.dtype, shape)


def size_of(found: TensorType) -> int:
    """Return the bytes of a tensor whose type has no symbols."""
    return prod(found.at({})) * found.dtype.size_bytes


def axis_of(name: str, found: TensorType) -> int:
    """Return the dimension along which a history is joined.

    Raises:
        Outside: the tensor has none.
    """
    try:
        return history_axis(name, found)
    except (Mismatch, OutOfRange) as error:
        raise Outside(f"history of {name}", str(found), "one dimension R") from error


def _equal(what: str, got: bytes, expected: bytes) -> None:
    if got != expected:
        raise NotCommitted(what, got, expected)
