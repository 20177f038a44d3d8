"""Questions about revealed jobs and their answers, between whoever checks and the provider. The node only passes on.

Nothing is believed: a question has to be about something that the provider committed to, an answer has to be what it
committed to. All of it may be lost at any time, so there is a bound on everything: bytes, jobs, askers, time.
"""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

from chain.errors import Invalid, NotYet

MAX_QUESTION_BYTES: Final = 64 * 1024
MAX_ANSWER_BYTES: Final = 256 * 1024
MAX_STORED_BYTES: Final = 64 * 1024 * 1024
MAX_STORED_BYTES_PER_JOB: Final = 16 * 1024 * 1024
MAX_OPEN: Final = 2_048
MAX_OPEN_PER_JOB: Final = 64
MAX_OPEN_PER_PEER: Final = 128
EXPIRES_S: Final = 300.0  # half of the main network's dispute window; who still wants to know asks again

Key = tuple[int, bytes, bytes]
"""Job, trace root, question: what an answer belongs to. A reorganisation may bring another trace root."""


class QuestionRefused(Invalid):
    """The question is about nothing that the job's provider committed to."""


class AnswerRefused(Invalid):
    """The answer is not what the provider committed to."""


class SignatureMissing(AnswerRefused):
    """A list of operators without its provider's signature proves nothing to the court."""


class NotAsked(AnswerRefused):
    """Nobody asked this, or too long ago."""


class RelayFull(NotYet):
    """A bound on open questions is reached; later there is room again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider published."""

    data: bytes
    signature: bytes
    """Its own under a list of operators; empty for everything else, and for what it published on chain."""

    @property
    def size_bytes(self) -> int:
        """What keeping it costs."""
        return len(self.data) + len(self.signature)


class Subject(Protocol):
    """A revealed job, as the relay needs it."""

    @property
    def job(self) -> int:
        """Its number."""
        ...

    @property
    def trace_root(self) -> bytes:
        """As its provider revealed it."""
        ...

    def is_question(self, question: bytes, signature: bytes) -> bool:
        """Whether the question is about something committed to; `signature`: of the list of operators it rests on."""
        ...

    def check(self, question: bytes, answer: Answer) -> None:
        """Check an answer, and the signature where it needs one.

        Raises:
            AnswerRefused
        """
        ...


@dataclass(slots=True)
class _Open:
    peer: str
    asked_at: float


class Relay:
    """Open questions and stored answers. Safe to use from any thread; checks run outside of the lock."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        max_stored_bytes: int = MAX_STORED_BYTES,
        max_stored_bytes_per_job: int = MAX_STORED_BYTES_PER_JOB,
    ) -> None:
        self._clock = clock
        self._max_stored = max_stored_bytes
        self._max_stored_per_job = max_stored_bytes_per_job
        self._lock = threading.Lock()
        self._answers: OrderedDict[Key, Answer] = OrderedDict()  # the least recently used first
        self._bytes: Counter[int] = Counter()  # by job
        self._open: OrderedDict[Key, _Open] = OrderedDict()  # the oldest first
        self._version = 0

    @property
    def version(self) -> int:
        """Grows whenever the open questions change."""
        return self._version

    @property
    def stored_bytes(self) -> int:
        """What the stored answers cost."""
        return sum(self._bytes.values())

    def ask(self, subject: Subject, question: bytes, signature: bytes, peer: str) -> Answer | None:
        """The answer, or None: the provider is asked now.

        Raises:
            QuestionRefused: about nothing that was committed to, or too long.
            RelayFull
        """
        key = (subject.job, subject.trace_root, question)
        with self._lock:
            answer = self._answers.get(key)
            if answer is not None:
                self._answers.move_to_end(key)
                return answer
            if key in self._open:
                return None
        if len(question) > MAX_QUESTION_BYTES:
            raise QuestionRefused(f"a question of {len(question)} bytes, at most {MAX_QUESTION_BYTES}")
        if not subject.is_question(question, signature):
            raise QuestionRefused(f"job {subject.job}: the provider committed to nothing that this asks for")
        with self._lock:
            self._expire()
            for bound, count, what in (
                (MAX_OPEN, len(self._open), "all jobs"),
                (MAX_OPEN_PER_JOB, sum(each[0] == subject.job for each in self._open), f"job {subject.job}"),
                (MAX_OPEN_PER_PEER, sum(asked.peer == peer for asked in self._open.values()), "this connection"),
            ):
                if count >= bound:
                    raise RelayFull(f"{count} questions of {what} are open; wait for answers")
            self._open[key] = _Open(peer, self._clock())
            self._version += 1
        return None

    def open_questions(self, jobs: Collection[int], limit: int = 64) -> list[Key]:
        """What is asked about these jobs, oldest first."""
        with self._lock:
            self._expire()
            return [key for key in self._open if key[0] in jobs][:limit]

    def answer(self, subject: Subject, question: bytes, answer: Answer) -> None:
        """Take a provider's answer to an open question.

        Raises:
            NotAsked, AnswerRefused
        """
        key = (subject.job, subject.trace_root, question)
        with self._lock:
            if key in self._answers:
                return
            if key not in self._open:
                raise NotAsked(f"job {subject.job}: nobody asked that, or too long ago")
        if len(answer.data) > MAX_ANSWER_BYTES:
            raise AnswerRefused(f"an answer of {len(answer.data)} bytes, at most {MAX_ANSWER_BYTES}")
        subject.check(question, answer)
        with self._lock:
            if self._open.pop(key, None) is not None:
                self._version += 1
            self._store(key, answer)

    def forget(self, keep: Collection[int]) -> None:
        """Drop everything about other jobs than these: they are final, refunded, slashed or no longer revealed."""
        with self._lock:
            for key in [key for key in self._answers if key[0] not in keep]:
                self._drop(key)
            gone = [key for key in self._open if key[0] not in keep]
            for key in gone:
                del self._open[key]
            self._version += bool(gone)

    def _store(self, key: Key, answer: Answer) -> None:
        if key in self._answers:
            self._drop(key)
        self._answers[key] = answer
        self._bytes[key[0]] += answer.size_bytes + len(key[2])
        while self._bytes[key[0]] > self._max_stored_per_job:  # a job never pushes out more than its own share
            self._drop(next(each for each in self._answers if each[0] == key[0]))
        while self.stored_bytes > self._max_stored:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: Key) -> None:
        answer = self._answers.pop(key)
        self._bytes[key[0]] -= answer.size_bytes + len(key[2])
        if not self._bytes[key[0]]:
            del self._bytes[key[0]]

    def _expire(self) -> None:
        latest = self._clock() - EXPIRES_S
        while self._open:
            key, asked = next(iter(self._open.items()))
            if asked.asked_at >= latest:
                return
            del self._open[key]
            self._version += 1
