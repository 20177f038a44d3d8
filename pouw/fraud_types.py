"""The words of a dispute: what a court knows, what may be asked of an accused, what a proof decides.

Layouts: docs/spec/fraud_proof.md. Integers of questions are big-endian; what a root commits to is little-endian.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from chain.errors import Invalid, Malformed, Mismatch, NotYet, OutOfRange
from chain.hashing import H
from pouw.hypergraph import ELEMENTS_MAX, SYMBOLS_MAX
from pouw.operators.types import TensorType
from pouw.trace import DType, UnknownDType, dtype_by_code, leaf_count, size_of

ANSWER_BYTES_MAX = 131_072  # of an answer: 4,096 roots
EVIDENCE_BYTES_MAX = 131_072  # the court's bound: a transaction holds no more
DEMAND_BYTES_MAX = 65_536  # likewise
ANSWERED_BYTES_MAX = 129_024  # a demand and its answer in one transaction, with 2 KiB for what surrounds them
FORM_RANK_MAX = 4  # as a graph's types
FANOUT_BITS = 8  # an answer about a tensor's tree has up to 256 chaining values
FACTS_BYTES = 160


class NotGuilty(Invalid):
    """Evidence that shows no fault: root of all that `check_proof` refuses with."""


class EvidenceMalformed(NotGuilty, Malformed):
    """Bytes that are no evidence, no question or no answer."""


class NotCommitted(NotGuilty, Mismatch):
    """What the evidence shows does not lead to what the accused committed to, or to graph and job."""


class NoFault(NotGuilty, Mismatch):
    """What the evidence shows is as it has to be."""


class Outside(NotGuilty, OutOfRange):
    """The evidence names a step, subgraph, operator, element or chunk that is not there."""


class FalseAnswer(Mismatch):
    """An answer does not hash to the commitment that it is about: as good as none. `expected` is the `Demand`."""


class Withheld(NotYet):
    """The accused has not answered."""

    def __init__(self, demand: "Demand") -> None:
        super().__init__(f"not answered: {demand.question}")
        self.demand = demand
        """What the court's `demand` takes."""


class VerdictKind(IntEnum):
    """Why an accused is guilty. Numbers are the court's."""

    ELEMENT = 1
    """An element is not what the operator makes of its inputs."""
    WITNESS = 2
    """A witness refutes an element."""
    FORM = 3
    """A root binds another dtype, shape or leaf count than the graph says."""
    LIST = 4
    """A signed operator list does not give the committed ports, or histories other than the earlier steps."""
    OUTPUT = 5
    """The job's output is not the trace's."""
    LENGTH = 6
    """Another number of steps, subgraphs or ports than graph and tokens say."""
    INVALID = 7
    """An operator, or the graph, does not take these values: no honest trace exists."""
    WITHHELD = 8
    """A demand was not answered; the court's alone, by time."""


class QuestionKind(IntEnum):
    """What may be asked."""

    TRACE_CHILDREN = 1
    """The roots under the trace root: of the subgraphs, of the steps in a scan."""
    STEP_CHILDREN = 2
    """The subgraphs' roots of one step of a scan."""
    PORT_ROOTS = 3
    """The roots of one subgraph's outputs."""
    OPERATOR_ROOTS = 4
    """The roots of all operators of one subgraph, then of its joined histories: signed, or published on chain."""
    FORM = 5
    """What one tensor root binds."""
    TREE_CHILDREN = 6
    """The chaining values below one node of a tensor's BLAKE3 tree, up to 256."""
    LEAF = 7
    """One chunk of a tensor, up to 1,024 bytes."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the court knows of a job."""

    graph: bytes
    """Graph id."""
    trace_root: bytes
    """As revealed."""
    input_hash: bytes
    """keccak256 of the job's input."""
    output_hash: bytes
    """keccak256 of the job's output."""
    symbols: tuple[int, ...]
    """Values of the graph's symbols, in its order."""

    def encode(self) -> bytes:
        """Return the 160 bytes that the court gives to `judge`."""
        packed = len(self.symbols) << 128
        for place, value in enumerate(self.symbols):
            packed |= value << (32 * place)
        return b"".join((self.graph, self.trace_root, self.input_hash, self.output_hash, packed.to_bytes(32, "big")))

    @classmethod
    def decode(cls, data: bytes) -> "Facts":
        """Read 160 bytes.

        Raises:
            EvidenceMalformed: another length, or symbols that JobMarket does not pack so.
        """
        if len(data) != FACTS_BYTES:
            raise EvidenceMalformed("facts", f"{len(data)} bytes, not {FACTS_BYTES}")
        packed = int.from_bytes(data[128:], "big")
        count = packed >> 128
        if count > SYMBOLS_MAX or (packed & (1 << 128) - 1) >> (32 * count):
            raise EvidenceMalformed("facts", f"symbols {packed:#x}")
        symbols = tuple(packed >> 32 * place & 0xFFFFFFFF for place in range(count))
        return cls(data[:32], data[32:64], data[64:96], data[96:128], symbols)


@dataclass(frozen=True, slots=True)
class Place:
    """One tensor of an execution: an operator's output in one step, or what a subgraph reads as a history."""

    step: int
    """0 without a scan."""
    subgraph: int
    operator: int
    """Within the subgraph; behind the last operator its histories, in the order of its inputs."""


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A node of a tensor's BLAKE3 tree, seen as 256-ary: chunks [index * 256^level, (index + 1) * 256^level)."""

    level: int
    """0: a chunk."""
    index: int


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that is asked of an accused; fields that a kind does not use are 0."""

    kind: QuestionKind
    step: int = 0
    subgraph: int = 0
    operator: int = 0
    """As in `Place`."""
    level: int = 0
    index: int = 0
    """Of the node, or of the chunk."""

    SIZE_BYTES = 20

    def encode(self) -> bytes:
        """Return kind u8, step u32, subgraph u16, operator u32, level u8, index u64."""
        head = bytes((self.kind,)) + self.step.to_bytes(4, "big") + self.subgraph.to_bytes(2, "big")
        return head + self.operator.to_bytes(4, "big") + bytes((self.level,)) + self.index.to_bytes(8, "big")

    @classmethod
    def decode(cls, data: bytes) -> "Question":
        """Read a question from its first 20 bytes (a demand goes on with what shows that it is about a commitment).

        Raises:
            EvidenceMalformed: too short, unknown kind, or a field that the kind does not use is not 0.
        """
        if len(data) < cls.SIZE_BYTES:
            raise EvidenceMalformed("question", f"{len(data)} bytes, at least {cls.SIZE_BYTES}")
        if not 1 <= data[0] <= len(QuestionKind):
            raise EvidenceMalformed("question", f"kind {data[0]}")
        fields = (data[1:5], data[5:7], data[7:11], data[11:12], data[12:20])
        found = cls(QuestionKind(data[0]), *(int.from_bytes(field, "big") for field in fields))
        if any(getattr(found, name) for name in _UNUSED[found.kind]):
            raise EvidenceMalformed("question", f"{found} names more than its kind")
        return found

    @property
    def place(self) -> Place:
        """The tensor that it is about."""
        return Place(self.step, self.subgraph, self.operator)

    @property
    def node(self) -> TreeNode:
        """The node that it is about."""
        return TreeNode(self.level, self.index)


_UNUSED = {
    QuestionKind.TRACE_CHILDREN: ("step", "subgraph", "operator", "level", "index"),
    QuestionKind.STEP_CHILDREN: ("subgraph", "operator", "level", "index"),
    QuestionKind.PORT_ROOTS: ("operator", "level", "index"),
    QuestionKind.OPERATOR_ROOTS: ("operator", "level", "index"),
    QuestionKind.FORM: ("level", "index"),
    QuestionKind.TREE_CHILDREN: (),
    QuestionKind.LEAF: ("level",),
}


@dataclass(frozen=True, slots=True)
class Form:
    """What a tensor root binds."""

    dtype: int
    """Code; one that is none is a fault."""
    shape: tuple[int, ...]
    leaves: int
    """Chunks of 1 KiB."""
    digest: bytes
    """BLAKE3 of the tensor's bytes."""

    @classmethod
    def of(cls, dtype: DType, shape: tuple[int, ...], digest: bytes) -> "Form":
        """Return the form of a tensor that is as it should be."""
        return cls(dtype.code, shape, leaf_count(size_of(dtype, shape)), digest)

    def root(self) -> bytes:
        """Return the tensor root (`pouw/trace.py`), also of what no tensor has."""
        head = bytes((self.dtype, len(self.shape))) + b"".join(size.to_bytes(4, "little") for size in self.shape)
        return H("tensor", head, self.leaves.to_bytes(8, "little"), self.digest)

    def type(self) -> TensorType:
        """Return dtype and shape.

        Raises:
            Outside: a type that no graph has.
        """
        try:
            found = TensorType(dtype_by_code(self.dtype), self.shape)
        except UnknownDType as error:
            raise Outside("dtype", self.dtype, "1 .. 5") from error
        elements = 1
        for size in self.shape:
            elements *= size
        if len(self.shape) > FORM_RANK_MAX or not 1 <= elements <= ELEMENTS_MAX:
            raise Outside("form", self.shape, f"rank {FORM_RANK_MAX}, 1 .. {ELEMENTS_MAX} elements")
        if self.leaves != leaf_count(elements * found.dtype.size_bytes):
            raise Outside("leaf count", self.leaves, leaf_count(elements * found.dtype.size_bytes))
        return found

    def encode(self) -> bytes:
        """Return dtype u8, rank u8, dimensions u32, leaf count u64 (little-endian, as the root binds them), digest."""
        head = bytes((self.dtype, len(self.shape))) + b"".join(size.to_bytes(4, "little") for size in self.shape)
        return head + self.leaves.to_bytes(8, "little") + self.digest

    @classmethod
    def decode(cls, data: bytes) -> "Form":
        """Read a form.

        Raises:
            EvidenceMalformed: another length than the rank says.
        """
        rank = data[1] if len(data) > 1 else 0
        if len(data) != 2 + 4 * rank + 40:
            raise EvidenceMalformed("form", f"{len(data)} bytes for rank {rank}")
        sizes = tuple(int.from_bytes(data[at : at + 4], "little") for at in range(2, 2 + 4 * rank, 4))
        return cls(data[0], sizes, int.from_bytes(data[-40:-32], "little"), data[-32:])


@dataclass(frozen=True, slots=True)
class Answer:
    """What an accused says to a question: roots or chaining values of 32 bytes each, a `Form`, or a chunk."""

    data: bytes
    signature: bytes = b""
    """Of an operator list alone: EIP-712 `Operators`, 65 bytes, checked by whoever fetched the answer."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A question with all that shows that it is about a commitment."""

    question: Question
    data: bytes
    """The question's 20 bytes, then what leads to the commitment: see `pouw/fraud_question.py`."""
    signature: bytes = b""
    """The accused's, of the operator list that the question rests on; empty where it rests on none."""


class Published(Protocol):
    """What an accused published, wherever it is fetched from. Answers need not be true: the search checks each."""

    def ask(self, demand: Demand) -> Answer:
        """Return the accused's answer.

        Raises:
            Withheld: there is none (yet), or an operator list without a valid signature.
        """
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a proof shows."""

    kind: VerdictKind
    step: int = 0
    subgraph: int = 0
    operator: int = 0
    """Global index, as in traces; the subgraph's first one where the fault is none of an operator's."""
    element: int = 0
    list_hash: bytes = bytes(32)
    """keccak256 of the operator list that the accused has to have signed or published; zeros where none is used."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What `Court.prove` takes."""

    evidence: bytes
    signature: bytes
    """Of the operator list; empty where the verdict does not rest on one."""
    verdict: Verdict
