"""The door for disputes believes nobody: questions about nothing, false answers and foreign signatures are refused."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from hyperdust.court import operators_digest, sign_operators
from hyperdust.proto import work_pb2 as messages
from pouw.fraud import Question, QuestionKind
from pouw.fraud_codec import Path as TracePath
from pouw.fraud_own import list_hash
from pouw.fraud_question import encode_demand
from pouw.graph_encoding import encode_top_layer
from tests.small_chain import MINER, OTHER_MINER, K, graph
from tests.unit.miner_harness import Aborted, Context, WorkChain, small_miner, turn

ROWS = 5
TOP = encode_top_layer(graph())
CHILDREN = encode_demand(Question(QuestionKind.TRACE_CHILDREN), TracePath(TOP))


class Scene:
    """A chain on which the miner revealed job 1."""

    def __init__(self, folder: Path) -> None:
        self.chain = WorkChain(folder / "chain")
        self.miner = small_miner(self.chain, folder / "miner")
        self.chain.bond(MINER)
        turn(self.chain, self.miner)
        self.chain.ask(np.ones((ROWS, K), np.int8).tobytes(), ROWS, MINER)
        turn(self.chain, self.miner, 3)

    def reveal(self) -> None:
        turn(self.chain, self.miner, 4)

    def get(self, question: bytes, signature: bytes = b"", job: int = 1) -> messages.Data | grpc.StatusCode:
        request = messages.DataRequest(job=job, question=question, signature=signature)
        try:
            return self.chain.server.get_data(request.SerializeToString(), Context())
        except Aborted as aborted:
            return aborted.code

    def submit(self, question: bytes, answer: bytes, signature: bytes = b"", job: int = 1) -> str:
        """Name of the rule that refused it; empty if it was taken."""
        data = messages.Data(job=job, question=question, answer=answer, signature=signature)
        return str(self.chain.server.submit_data(data.SerializeToString(), Context()).rule)

    def own_answer(self, question: bytes) -> bytes:
        answers = self.miner._answers_on(self.chain.offer())
        return answers._load_trace(1).answer(Question.decode(question)).data

    def list_demand(self) -> bytes:
        children, ports = (self.own_answer(Question(kind).encode()) for kind in (1, 3))
        path = TracePath(TOP, (children,), (), ((0, 0, (ports,)),))
        return encode_demand(Question(QuestionKind.OPERATOR_ROOTS), path)

    def signature(self, account: Any, roots: bytes, job: int = 1) -> bytes:
        digest = operators_digest(self.chain.params.chain_id, job, 0, 0, list_hash(roots))
        return sign_operators(account, digest)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.chain.close()


def test_nothing_may_be_asked_before_the_reveal_or_of_unknown_jobs(scene: Scene) -> None:
    assert scene.get(CHILDREN) is grpc.StatusCode.FAILED_PRECONDITION
    assert scene.get(CHILDREN, job=9) is grpc.StatusCode.FAILED_PRECONDITION
    assert scene.submit(CHILDREN, bytes(32)) == "NotAsked"


def test_a_question_reaches_the_provider_alone_and_its_answer_whoever_asks(scene: Scene) -> None:
    scene.reveal()
    assert scene.get(CHILDREN) is grpc.StatusCode.NOT_FOUND
    (asked,) = scene.chain.offer(MINER).questions
    assert (asked.job, asked.question, asked.demand) == (1, CHILDREN, 0)
    assert not scene.chain.offer(OTHER_MINER).questions
    answers = scene.miner._answers_on(scene.chain.offer())
    answers.answer(scene.chain.offer(MINER))
    found = scene.get(CHILDREN)
    assert isinstance(found, messages.Data)
    assert found.answer == scene.own_answer(CHILDREN)
    assert not scene.chain.offer(MINER).questions


def test_what_was_not_committed_to_is_neither_asked_nor_stored(scene: Scene) -> None:
    scene.reveal()
    for question in (b"", bytes(20), CHILDREN[:-1], CHILDREN + b"\0", b"\1" * 300, CHILDREN.replace(TOP, TOP[::-1])):
        assert scene.get(question) is grpc.StatusCode.INVALID_ARGUMENT
    scene.get(CHILDREN)
    right = scene.own_answer(CHILDREN)
    for answer in (b"", right[:-1], right + right, bytes(32), bytes(200_000), bytes(300_000)):
        assert scene.submit(CHILDREN, answer) == "AnswerRefused"
    assert scene.submit(CHILDREN, right) == ""
    assert scene.submit(CHILDREN, bytes(32)) == ""  # answered already: nothing changes
    assert scene.get(CHILDREN).answer == right  # type: ignore[union-attr]


def test_a_list_of_operators_is_its_providers_or_nobodys(scene: Scene) -> None:
    scene.reveal()
    demand = scene.list_demand()
    assert scene.get(demand) is grpc.StatusCode.NOT_FOUND
    roots = scene.own_answer(demand)
    for signature in (b"", bytes(65), scene.signature(OTHER_MINER, roots), scene.signature(MINER, roots, job=2)):
        assert scene.submit(demand, roots, signature) == "SignatureMissing"
    right = scene.signature(MINER, roots)
    assert scene.submit(demand, roots, right) == ""
    assert scene.get(demand).signature == right  # type: ignore[union-attr]


def test_a_question_below_a_list_needs_the_lists_signature(scene: Scene) -> None:
    scene.reveal()
    children, ports = (scene.own_answer(Question(kind).encode()) for kind in (1, 3))
    roots = scene.own_answer(scene.list_demand())
    path = TracePath(TOP, (children,), (), ((0, 0, (ports,)),), (roots,))
    below = encode_demand(Question(QuestionKind.FORM), path)
    assert scene.get(below) is grpc.StatusCode.INVALID_ARGUMENT
    assert scene.get(below, scene.signature(OTHER_MINER, roots)) is grpc.StatusCode.INVALID_ARGUMENT
    assert scene.get(below, scene.signature(MINER, roots)) is grpc.StatusCode.NOT_FOUND


def test_random_bytes_never_break_it(scene: Scene) -> None:
    scene.reveal()
    drawn = random.Random(3)
    for _ in range(200):
        data = drawn.randbytes(drawn.randrange(200))
        for method in (scene.chain.server.get_data, scene.chain.server.submit_data):
            assert refusal(method, data) in {
                None,
                grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.FAILED_PRECONDITION,
            }
        changed = bytearray(CHILDREN)
        changed[drawn.randrange(len(changed))] ^= 1 << drawn.randrange(8)
        assert scene.get(bytes(changed)) is grpc.StatusCode.INVALID_ARGUMENT


def refusal(method: Any, data: bytes) -> grpc.StatusCode | None:
    try:
        method(data, Context())
    except Aborted as aborted:
        return aborted.code
    return None
