"""The relay believes nobody, keeps within its bounds whatever is asked, and forgets."""

from dataclasses import dataclass

import pytest

from hyperdust.node.relay import (
    EXPIRES_S,
    MAX_ANSWER_BYTES,
    MAX_OPEN,
    MAX_OPEN_PER_JOB,
    MAX_OPEN_PER_PEER,
    MAX_QUESTION_BYTES,
    Answer,
    AnswerRefused,
    NotAsked,
    QuestionRefused,
    Relay,
    RelayFull,
    SignatureMissing,
)


@dataclass(frozen=True)
class FakeSubject:
    """A job whose provider committed to `data of Q` for every question Q that starts with "about"."""

    job: int = 1
    trace_root: bytes = b"root"

    def is_question(self, question: bytes, signature: bytes) -> bool:
        return question.startswith(b"about") and not signature

    def check(self, question: bytes, answer: Answer) -> None:
        if answer.data[: len(question) + 8] != b"data of " + question:
            raise AnswerRefused("not what was committed to")
        if question.endswith(b"list") and answer.signature != b"signed":
            raise SignatureMissing("not signed")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def relay(clock: Clock) -> Relay:
    return Relay(clock)


JOB = FakeSubject()


def answer_of(question: bytes, padding: int = 0, signature: bytes = b"") -> Answer:
    return Answer(b"data of " + question + bytes(padding), signature)


def publish(relay: Relay, job: FakeSubject, question: bytes, padding: int = 0) -> None:
    relay.ask(job, question, b"", "publisher")
    relay.answer(job, question, answer_of(question, padding))


def test_a_question_waits_for_its_provider_and_then_for_nobody(relay: Relay) -> None:
    assert relay.ask(JOB, b"about a", b"", "peer") is None
    assert relay.ask(JOB, b"about a", b"", "another") is None
    assert relay.open_questions({1}) == [(1, b"root", b"about a")]
    assert relay.open_questions({2}) == []
    relay.answer(JOB, b"about a", answer_of(b"about a"))
    assert relay.open_questions({1}) == []
    assert relay.ask(JOB, b"about a", b"", "peer") == answer_of(b"about a")
    relay.answer(JOB, b"about a", Answer(b"anything", b""))  # nothing replaces what was checked
    assert relay.ask(JOB, b"about a", b"", "peer") == answer_of(b"about a")


def test_a_wrong_answer_is_refused_and_the_question_stays(relay: Relay) -> None:
    relay.ask(JOB, b"about a", b"", "peer")
    with pytest.raises(AnswerRefused, match="not what was committed to"):
        relay.answer(JOB, b"about a", Answer(b"a lie", b""))
    with pytest.raises(AnswerRefused, match="at most"):
        relay.answer(JOB, b"about a", answer_of(b"about a", MAX_ANSWER_BYTES))
    assert relay.open_questions({1})
    assert relay.stored_bytes == 0


def test_an_answer_belongs_to_one_trace_root(relay: Relay) -> None:
    publish(relay, JOB, b"about a")
    assert relay.ask(JOB, b"about a", b"", "peer") is not None
    assert relay.ask(FakeSubject(trace_root=b"another"), b"about a", b"", "peer") is None


def test_a_list_needs_its_signature(relay: Relay) -> None:
    relay.ask(JOB, b"about list", b"", "peer")
    with pytest.raises(SignatureMissing):
        relay.answer(JOB, b"about list", answer_of(b"about list"))
    relay.answer(JOB, b"about list", answer_of(b"about list", signature=b"signed"))
    assert relay.ask(JOB, b"about list", b"", "peer") is not None


def test_nonsense_is_never_asked_and_what_nobody_asked_is_never_kept(relay: Relay) -> None:
    with pytest.raises(QuestionRefused, match="committed to nothing"):
        relay.ask(JOB, b"nonsense", b"", "peer")
    with pytest.raises(QuestionRefused, match="at most"):
        relay.ask(JOB, b"about" + bytes(MAX_QUESTION_BYTES), b"", "peer")
    with pytest.raises(NotAsked):
        relay.answer(JOB, b"about a", answer_of(b"about a"))
    assert relay.open_questions({1}) == []


def test_one_job_one_peer_and_all_have_a_bound_each(relay: Relay) -> None:
    for number in range(MAX_OPEN_PER_JOB):
        relay.ask(JOB, b"about %d" % number, b"", f"peer {number}")
    with pytest.raises(RelayFull, match="job 1"):
        relay.ask(JOB, b"about more", b"", "peer")
    for number in range(MAX_OPEN_PER_PEER):
        relay.ask(FakeSubject(2 + number), b"about", b"", "busy")
    with pytest.raises(RelayFull, match="this connection"):
        relay.ask(FakeSubject(1_000), b"about", b"", "busy")
    for number in range(MAX_OPEN - MAX_OPEN_PER_JOB - MAX_OPEN_PER_PEER):
        relay.ask(FakeSubject(2_000 + number), b"about", b"", f"peer {number}")
    with pytest.raises(RelayFull, match="all jobs"):
        relay.ask(FakeSubject(9_000), b"about", b"", "new")
    relay.answer(JOB, b"about 0", answer_of(b"about 0"))
    assert relay.ask(FakeSubject(9_000), b"about", b"", "new") is None


def test_questions_expire(relay: Relay, clock: Clock) -> None:
    relay.ask(JOB, b"about a", b"", "peer")
    clock.now = EXPIRES_S
    relay.ask(JOB, b"about b", b"", "peer")
    before = relay.version
    clock.now = EXPIRES_S + 1
    assert relay.open_questions({1}) == [(1, b"root", b"about b")]
    assert relay.version > before
    with pytest.raises(NotAsked):
        relay.answer(JOB, b"about a", answer_of(b"about a"))


def test_memory_is_bounded_by_bytes_and_the_least_used_leaves_first(clock: Clock) -> None:
    relay = Relay(clock, max_stored_bytes=10_000, max_stored_bytes_per_job=4_000)
    for job in range(20):
        publish(relay, FakeSubject(job), b"about", 1_000)
        assert relay.ask(FakeSubject(0), b"about", b"", "peer") is not None  # in use all the time
        assert relay.stored_bytes <= 10_000
    assert relay.ask(FakeSubject(1), b"about", b"", "peer") is None
    for number in range(20):
        publish(relay, FakeSubject(19), b"about %d" % number, 1_000)
    assert relay.ask(FakeSubject(0), b"about", b"", "peer") is not None  # a greedy job pushed out its own alone
    assert relay.stored_bytes <= 10_000


def test_a_job_that_is_over_is_forgotten(relay: Relay) -> None:
    relay.ask(JOB, b"about a", b"", "peer")
    publish(relay, JOB, b"about b")
    publish(relay, FakeSubject(2), b"about b")
    relay.forget(keep={2})
    assert relay.open_questions({1}) == []
    assert relay.ask(FakeSubject(2), b"about b", b"", "peer") is not None
    relay.forget(keep=())
    assert relay.stored_bytes == 0
