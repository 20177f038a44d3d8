"""What may be demanded of an accused, and what answers it.

A demand is a question (20 bytes) with the path that leads to the commitment that it is about, so that nobody is asked
for what he never committed to. Below an operator list it rests on that list: whoever takes the demand has to hold the
accused's signature of it, or its publication.
"""

from dataclasses import dataclass

from chain.hashing import H, keccak256
from pouw.fraud_codec import ROOT_BYTES, Cursor, Path, split_roots
from pouw.fraud_path import Committed, at, check_path
from pouw.fraud_tensor import lift, nodes_at, top_node, value_of_children, value_of_leaf
from pouw.fraud_types import (
    ANSWER_BYTES_MAX,
    ANSWERED_BYTES_MAX,
    DEMAND_BYTES_MAX,
    EvidenceMalformed,
    Facts,
    Form,
    NotCommitted,
    Outside,
    Question,
    QuestionKind,
    TreeNode,
)
from pouw.trace import LEAF_BYTES

DIGEST_SIBLINGS_MAX = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about a commitment."""

    question: Question
    target: bytes
    """The hash that the answer has to lead to."""
    list_hash: bytes
    """Of the operator list that the question rests on; of an answer: of the list that it publishes. Else zeros."""
    size_bytes: int = 0
    """Of the tensor that a node or a chunk belongs to."""

    @property
    def key(self) -> bytes:
        """Name of the demand: one for each thing that may be asked of a job."""
        return keccak256(self.question.encode() + self.target)

    @property
    def place_word(self) -> int:
        """Step and subgraph, as the court's `published` knows them."""
        return self.question.step << 32 | self.question.subgraph


def encode_demand(
    question: Question, path: Path, form: bytes = b"", value: bytes = b"", siblings: bytes = b""
) -> bytes:
    """Return the bytes of a demand.

    `form`: of the tensor, for a node or a chunk; `value`: the node's, and `siblings`: from below, to the digest.
    """
    tree = len(form).to_bytes(2, "big") + form + len(value).to_bytes(1, "big") + value
    return question.encode() + path.encode() + tree + (len(siblings) // ROOT_BYTES).to_bytes(1, "big") + siblings


def check_question(facts: Facts, demand: bytes) -> Asked:
    """Return what a demand asks for, if the accused committed to it: an honest one can answer.

    Raises:
        NotGuilty and its kinds, and what `decode_top_layer` raises (all `Invalid`).
    """
    return _read(facts, demand)[0]


def _read(facts: Facts, demand: bytes) -> tuple[Asked, Committed]:
    if len(demand) > DEMAND_BYTES_MAX:
        raise EvidenceMalformed("demand", f"{len(demand)} bytes, at most {DEMAND_BYTES_MAX}")
    question = Question.decode(demand)
    cursor = Cursor(demand, Question.SIZE_BYTES)
    path = Path.read(cursor)
    form, value, siblings = cursor.counted(2, "form"), cursor.counted(1, "value"), cursor.roots(1, "siblings")
    cursor.end("demand")
    committed = check_path(facts, path)
    if question.kind is QuestionKind.OPERATOR_ROOTS:
        _check_answerable(committed, question, len(demand))
    target, size_bytes = _target(committed, question), 0
    if question.kind in {QuestionKind.TREE_CHILDREN, QuestionKind.LEAF}:
        target, size_bytes = _node(question, target, Form.decode(form), value, siblings)
    elif form or value or siblings:
        raise EvidenceMalformed("demand", f"a tensor's tree for {question.kind.name}")
    return Asked(question, target, committed.list_hash(), size_bytes), committed


def check_answer(facts: Facts, demand: bytes, data: bytes) -> Asked:
    """Return the question that an answer answers; its `list_hash` is of the operator list that the answer publishes.

    Raises:
        NotCommitted: it does not lead to the commitment. NotGuilty and its kinds otherwise, as `check_question`.
    """
    asked, committed = _read(facts, demand)
    if len(data) > ANSWER_BYTES_MAX:
        raise EvidenceMalformed("answer", f"{len(data)} bytes, at most {ANSWER_BYTES_MAX}")
    check_data(asked, data)
    if asked.question.kind is not QuestionKind.OPERATOR_ROOTS:
        return Asked(asked.question, asked.target, bytes(32), asked.size_bytes)
    committed.check_list(asked.question.step, asked.question.subgraph, split_roots(data, "operator list"))
    return Asked(asked.question, asked.target, keccak256(data))


def check_data(asked: Asked, data: bytes) -> None:
    """Refuse an answer that does not lead to the question's target; an operator list has none.

    Raises:
        NotCommitted, EvidenceMalformed.
    """
    question = asked.question
    match question.kind:
        case QuestionKind.TRACE_CHILDREN:
            found = H("trace", *split_roots(data, "answer"))
        case QuestionKind.STEP_CHILDREN:
            found = H("step", *split_roots(data, "answer"))
        case QuestionKind.PORT_ROOTS:
            found = H("subgraph-outputs", *split_roots(data, "answer"))
        case QuestionKind.OPERATOR_ROOTS:
            return
        case QuestionKind.FORM:
            found = Form.decode(data).root()
        case QuestionKind.TREE_CHILDREN:
            found = value_of_children(asked.size_bytes, question.node, data)
        case QuestionKind.LEAF:
            found = value_of_leaf(asked.size_bytes, question.index, data)
    if found != asked.target:
        raise NotCommitted(f"answer to {question.kind.name}", found, asked.target)


def _check_answerable(committed: Committed, question: Question, size_bytes: int) -> None:
    """Refuse to ask for a list that no transaction could answer with."""
    head = committed.head(question.subgraph)
    size_bytes += ROOT_BYTES * committed.history_place(question.subgraph, len(head.inputs))
    if size_bytes > ANSWERED_BYTES_MAX:
        raise Outside("bytes of demand and answer", size_bytes, f"at most {ANSWERED_BYTES_MAX}")


def _target(committed: Committed, question: Question) -> bytes:
    """Return the hash that is committed to: for a tensor's tree, the tensor's root."""
    if question.kind is QuestionKind.TRACE_CHILDREN:
        return committed.facts.trace_root
    if question.kind is QuestionKind.STEP_CHILDREN:
        if committed.top.scan is None:
            raise Outside("step", question.step, "none without a scan")
        return at(committed.trace_children(), question.step, "step")
    if question.kind in {QuestionKind.PORT_ROOTS, QuestionKind.OPERATOR_ROOTS}:
        committed.head(question.subgraph)
        if question.kind is QuestionKind.OPERATOR_ROOTS:
            committed.port_roots(question.step, question.subgraph)
        return at(committed.step_children(question.step), question.subgraph, "subgraph")
    committed.check_step(question.step)
    return committed.operator_root(question.step, question.subgraph, question.operator)


def _node(question: Question, root: bytes, form: Form, value: bytes, siblings: tuple[bytes, ...]) -> tuple[bytes, int]:
    """Return a node's value, shown to lead to the root, and its tensor's size in bytes."""
    if form.root() != root:
        raise NotCommitted("form", form.root(), root)
    found = form.type()
    size_bytes = found.dtype.size_bytes
    for size in form.shape:
        size_bytes *= size
    top = top_node(size_bytes)
    node = question.node if question.kind is QuestionKind.TREE_CHILDREN else TreeNode(0, question.index)
    least = 1 if question.kind is QuestionKind.TREE_CHILDREN else 0
    if not least <= node.level <= top.level or node.index >= nodes_at(size_bytes, node.level):
        raise Outside("node", node, f"within {form.leaves} chunks of {LEAF_BYTES} bytes")
    if len(siblings) > DIGEST_SIBLINGS_MAX:
        raise EvidenceMalformed("siblings", f"{len(siblings)}")
    if lift(size_bytes, node, value, siblings) != form.digest:
        raise NotCommitted("digest", "another", form.digest)
    return value, size_bytes
