"""Bytes of evidence: what leads from a trace root to what is disputed (`Path`), and what is claimed of it (`Claim`).

Big-endian; the flags name the optional parts; nothing stands behind the end. Layout: docs/spec/fraud_proof.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pouw.fraud_types import EVIDENCE_BYTES_MAX, EvidenceMalformed, VerdictKind
from pouw.trace import LEAF_BYTES

STEPS_MAX = 4  # of which a proof shows the subgraphs: its own, the one before, the piece's
PORTS_MAX = 80  # subgraphs of which a proof shows the ports: those that 64 inputs come from, and more
TENSORS_MAX = 17  # an operator's inputs and its output
ROOT_BYTES = 32

_TRACE, _LIST, _INPUT, _OUTPUT = 1, 2, 4, 8


@dataclass(slots=True)
class Cursor:
    """Reads bytes from front to back."""

    data: bytes
    position: int = 0

    def take(self, size: int, what: str) -> bytes:
        """Return the next bytes.

        Raises:
            EvidenceMalformed: there are not so many.
        """
        part = self.data[self.position : self.position + size]
        if len(part) != size:
            raise EvidenceMalformed(what, f"needs {size} bytes at {self.position}, has {len(part)}")
        self.position += size
        return part

    def number(self, size: int, what: str, bound: int | None = None) -> int:
        """Return an unsigned number, at most `bound`.

        Raises:
            EvidenceMalformed
        """
        value = int.from_bytes(self.take(size, what), "big")
        if bound is not None and value > bound:
            raise EvidenceMalformed(what, f"{value}, at most {bound}")
        return value

    def roots(self, size: int, what: str) -> tuple[bytes, ...]:
        """Return a counted list of hashes; the count has `size` bytes.

        Raises:
            EvidenceMalformed
        """
        return split_roots(self.take(ROOT_BYTES * self.number(size, what), what), what)

    def counted(self, size: int, what: str) -> bytes:
        """Return bytes behind their length.

        Raises:
            EvidenceMalformed
        """
        return self.take(self.number(size, what), what)

    def end(self, what: str) -> None:
        """Refuse bytes that follow.

        Raises:
            EvidenceMalformed
        """
        if self.position != len(self.data):
            raise EvidenceMalformed(what, f"{len(self.data) - self.position} bytes behind its end")


def split_roots(data: bytes, what: str) -> tuple[bytes, ...]:
    """Return hashes that stand one behind the other.

    Raises:
        EvidenceMalformed: the last one is cut.
    """
    if len(data) % ROOT_BYTES:
        raise EvidenceMalformed(what, f"{len(data)} bytes, not a multiple of {ROOT_BYTES}")
    return tuple(data[at : at + ROOT_BYTES] for at in range(0, len(data), ROOT_BYTES))


@dataclass(frozen=True, slots=True)
class Path:
    """Preimages of commitments, from graph id and trace root down to the roots of tensors."""

    top_layer: bytes
    """Its hash is the graph id."""
    trace_children: tuple[bytes, ...] | None = None
    steps: tuple[tuple[int, tuple[bytes, ...]], ...] = ()
    """(step, roots of its subgraphs), ascending; none without a scan."""
    ports: tuple[tuple[int, int, tuple[bytes, ...]], ...] = ()
    """(step, subgraph, roots of its outputs), ascending."""
    operators: tuple[bytes, ...] | None = None
    """The operator list of the disputed subgraph: operators, then joined histories."""
    job_input: bytes | None = None
    job_output: bytes | None = None

    def encode(self) -> bytes:
        """Return the bytes."""
        flags = 0
        for flag, part in (
            (_TRACE, self.trace_children),
            (_LIST, self.operators),
            (_INPUT, self.job_input),
            (_OUTPUT, self.job_output),
        ):
            flags |= flag if part is not None else 0
        out = [bytes((flags,)), _counted(self.top_layer, 4)]
        if self.trace_children is not None:
            out.append(_roots(self.trace_children, 4))
        out.append(bytes((len(self.steps),)))
        out += [step.to_bytes(4, "big") + _roots(roots, 2) for step, roots in self.steps]
        out.append(bytes((len(self.ports),)))
        for step, subgraph, roots in self.ports:
            out.append(step.to_bytes(4, "big") + subgraph.to_bytes(2, "big") + _roots(roots, 2))
        if self.operators is not None:
            out.append(_roots(self.operators, 4))
        out += [_counted(part, 4) for part in (self.job_input, self.job_output) if part is not None]
        return b"".join(out)

    @classmethod
    def read(cls, cursor: Cursor) -> "Path":
        """Read a path; what it leads to is not checked here.

        Raises:
            EvidenceMalformed
        """
        flags = cursor.number(1, "flags", _TRACE | _LIST | _INPUT | _OUTPUT)
        top_layer = cursor.counted(4, "top layer")
        trace_children = cursor.roots(4, "trace's children") if flags & _TRACE else None
        steps = tuple(
            (cursor.number(4, "step"), cursor.roots(2, "step's children"))
            for _ in range(cursor.number(1, "steps", STEPS_MAX))
        )
        ports = tuple(
            (cursor.number(4, "step"), cursor.number(2, "subgraph"), cursor.roots(2, "ports"))
            for _ in range(cursor.number(1, "ports", PORTS_MAX))
        )
        operators = cursor.roots(4, "operators") if flags & _LIST else None
        job_input = cursor.counted(4, "input") if flags & _INPUT else None
        job_output = cursor.counted(4, "output") if flags & _OUTPUT else None
        return cls(top_layer, trace_children, steps, ports, operators, job_input, job_output)


@dataclass(frozen=True, slots=True)
class Opening:
    """Neighbouring chunks of a tensor and what leads from them to its digest."""

    first_chunk: int
    data: bytes
    siblings: bytes
    """Chaining values of the subtrees beside the range, left to right."""

    @property
    def chunks(self) -> int:
        """Number of chunks, the last one cut at the tensor's end."""
        return -(-len(self.data) // LEAF_BYTES)


@dataclass(frozen=True, slots=True)
class ShownTensor:
    """What evidence shows of one tensor."""

    form: bytes = b""
    """A `Form`, where its type does not follow from the graph; else empty."""
    openings: tuple[Opening, ...] = ()
    """Ascending and apart."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What is claimed; fields that a kind does not use are 0 or empty."""

    kind: VerdictKind
    variant: int = 0
    """Of the kind; see docs/spec/fraud_proof.md."""
    step: int = 0
    subgraph: int = 0
    operator: int = 0
    """Within the subgraph; behind the operators its histories."""
    element: int = 0
    witness: int = 0
    encoding: bytes = b""
    """The operator, as its leaf under the operators root."""
    siblings: tuple[bytes, ...] = ()
    """From the leaf to the operators root."""
    tensors: tuple[ShownTensor, ...] = field(default=())

    def encode(self) -> bytes:
        """Return the bytes."""
        out = [bytes((self.kind, self.variant)), self.step.to_bytes(4, "big"), self.subgraph.to_bytes(2, "big")]
        out += [self.operator.to_bytes(4, "big"), self.element.to_bytes(8, "big"), self.witness.to_bytes(8, "big")]
        out += [_counted(self.encoding, 2), _roots(self.siblings, 1), bytes((len(self.tensors),))]
        for tensor in self.tensors:
            out += [_counted(tensor.form, 2), len(tensor.openings).to_bytes(2, "big")]
            for opening in tensor.openings:
                out += [opening.first_chunk.to_bytes(8, "big"), _counted(opening.data, 4)]
                out.append(_counted(opening.siblings, 2))
        return b"".join(out)

    @classmethod
    def read(cls, cursor: Cursor) -> "Claim":
        """Read a claim.

        Raises:
            EvidenceMalformed
        """
        kind = cursor.number(1, "kind")
        if not 1 <= kind < VerdictKind.WITHHELD:
            raise EvidenceMalformed("claim", f"kind {kind}")
        variant, step, subgraph = cursor.number(1, "variant"), cursor.number(4, "step"), cursor.number(2, "subgraph")
        operator, element, witness = (
            cursor.number(4, "operator"),
            cursor.number(8, "element"),
            cursor.number(8, "witness"),
        )
        encoding, siblings = cursor.counted(2, "operator"), cursor.roots(1, "operator's siblings")
        count = cursor.number(1, "tensors", TENSORS_MAX)
        tensors = tuple(_read_tensor(cursor) for _ in range(count))
        places = variant, step, subgraph, operator, element, witness
        return cls(VerdictKind(kind), *places, encoding, siblings, tensors)


def _read_tensor(cursor: Cursor) -> ShownTensor:
    form = cursor.counted(2, "form")
    openings = tuple(
        Opening(cursor.number(8, "first chunk"), cursor.counted(4, "opening"), cursor.counted(2, "siblings"))
        for _ in range(cursor.number(2, "openings"))
    )
    return ShownTensor(form, openings)


def encode_evidence(path: Path, claim: Claim) -> bytes:
    """Return the evidence of a proof."""
    return claim.encode() + path.encode()


def decode_evidence(data: bytes) -> tuple[Path, Claim]:
    """Read evidence.

    Raises:
        EvidenceMalformed
    """
    if len(data) > EVIDENCE_BYTES_MAX:
        raise EvidenceMalformed("evidence", f"{len(data)} bytes, at most {EVIDENCE_BYTES_MAX}")
    cursor = Cursor(data)
    claim = Claim.read(cursor)
    path = Path.read(cursor)
    cursor.end("evidence")
    return path, claim


def _counted(data: bytes, size: int) -> bytes:
    return len(data).to_bytes(size, "big") + data


def _roots(roots: Sequence[bytes], size: int) -> bytes:
    return len(roots).to_bytes(size, "big") + b"".join(roots)
