"""The work API's door for disputes: questions about revealed jobs go to their providers, checked answers come back.

Knows what may be asked of a job and what answers it; bounds and storage are the relay's.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from chain.errors import HyperdustError, Invalid
from chain.params import ChainParams
from hyperdust.court import operators_digest, recover_provider
from hyperdust.node.job_record import Job, Status
from hyperdust.node.jobs import Check, JobIndex
from hyperdust.node.relay import Answer, AnswerRefused, QuestionRefused, Relay, RelayFull, SignatureMissing
from hyperdust.proto import work_pb2 as messages
from pouw.fraud import Facts, Question, QuestionKind
from pouw.fraud_own import list_hash
from pouw.fraud_question import check_answer, check_question

MAX_QUESTIONS: Final = 64  # in a template
MAX_QUESTIONS_BYTES: Final = 512 * 1024

List = tuple[int, int, bytes]
"""Step, subgraph and hash of a list of operators."""


@dataclass(frozen=True, slots=True)
class RevealedJob:
    """A job about which questions may be asked, as the court knows it."""

    job: int
    provider: bytes
    facts: Facts
    chain_id: int
    published: frozenset[List]
    """Lists of operators that stand on chain: nobody need have signed them."""

    @property
    def trace_root(self) -> bytes:
        """As its provider revealed it."""
        return self.facts.trace_root

    def is_question(self, question: bytes, signature: bytes) -> bool:
        """Whether the provider committed to what is asked for: by its trace root, or by a list that it signed."""
        try:
            asked = check_question(self.facts, question)
        except Invalid:
            return False
        place = asked.question.place
        return not any(asked.list_hash) or self._is_committed((place.step, place.subgraph, asked.list_hash), signature)

    def check(self, question: bytes, answer: Answer) -> None:
        """Check that an answer is what the provider committed to, and a list of operators that it signed it.

        Raises:
            AnswerRefused
        """
        try:
            asked = check_answer(self.facts, question, answer.data)
        except Invalid as error:
            raise AnswerRefused(str(error)) from error
        if asked.question.kind is not QuestionKind.OPERATOR_ROOTS:
            return
        place = asked.question.place
        if not self._is_committed((place.step, place.subgraph, list_hash(answer.data)), answer.signature):
            raise SignatureMissing(f"job {self.job}: the list of operators is not signed by its provider")

    def _is_committed(self, operators: List, signature: bytes) -> bool:
        if operators in self.published:
            return True
        try:
            signer = recover_provider(operators_digest(self.chain_id, self.job, *operators), signature)
        except Invalid:
            return False
        return signer == self.provider


def find_revealed(job: Job, params: ChainParams) -> RevealedJob | None:
    """What may be asked about; None unless the job is revealed and not decided."""
    facts, provider = job.facts(), job.provider
    if job.status is not Status.REVEALED or facts is None or provider is None:
        return None
    return RevealedJob(job.id, provider, facts, params.chain_id, frozenset(_published(job)))


class Questions:
    """Serves GetData and SubmitData, and fills templates. Safe to use from any thread."""

    def __init__(self, params: ChainParams, jobs: JobIndex, wake: Callable[[], None]) -> None:
        self._params = params
        self._jobs = jobs
        self._wake = wake
        self._relay = Relay()

    @property
    def version(self) -> int:
        """Grows whenever templates may carry other questions."""
        return self._relay.version

    def get_data(self, request: bytes, context: Any) -> messages.Data:
        """An answer, or NOT_FOUND while the provider is asked."""
        decoded = _parse(messages.DataRequest, request, context)
        question = bytes(decoded.question)
        job = self._jobs.get(decoded.job)
        revealed = find_revealed(job, self._params) if job is not None else None
        if job is None or revealed is None:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"job {decoded.job} is not revealed, or decided")
            raise AssertionError
        on_chain = dict(job.answered()).get(question)
        try:
            answer = (
                Answer(on_chain, b"")
                if on_chain is not None
                else self._relay.ask(revealed, question, bytes(decoded.signature), context.peer())
            )
        except QuestionRefused as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise AssertionError from error
        except RelayFull as error:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            raise AssertionError from error
        if answer is None:
            self._wake()
            context.abort(grpc.StatusCode.NOT_FOUND, f"the provider of job {job.id} is asked; try again")
            raise AssertionError
        return messages.Data(job=job.id, question=question, answer=answer.data, signature=answer.signature)

    def submit_data(self, request: bytes, context: Any) -> messages.Verdict:
        """A provider's answer."""
        decoded = _parse(messages.Data, request, context)
        job = self._jobs.get(decoded.job)
        revealed = find_revealed(job, self._params) if job is not None else None
        if revealed is None:
            return messages.Verdict(rule="NotAsked", text=f"job {decoded.job} is not revealed, or decided")
        answer = Answer(bytes(decoded.answer), bytes(decoded.signature))
        try:
            self._relay.answer(revealed, bytes(decoded.question), answer)
        except HyperdustError as error:
            return messages.Verdict(rule=type(error).__name__, text=str(error))
        return messages.Verdict(accepted=True)

    def asked_of(self, provider: bytes) -> list[messages.DataRequest]:
        """What is asked of a provider: demands on chain first, as many as fit into a template."""
        jobs = {job.id: job for job in self._jobs.revealed_by(provider)}
        requests = [
            messages.DataRequest(job=job.id, question=demand.question, demand=demand.id, until=demand.deadline)
            for job in jobs.values()
            for demand in job.open_demands()
        ]
        requests += [
            messages.DataRequest(job=job, question=question)
            for job, _, question in self._relay.open_questions(jobs, MAX_QUESTIONS)
        ]
        found: list[messages.DataRequest] = []
        size = 0
        for request in requests[:MAX_QUESTIONS]:
            size += len(request.question)
            if size > MAX_QUESTIONS_BYTES:
                break
            found.append(request)
        return found

    def forget_decided(self) -> None:
        """Drop what belongs to jobs that are revealed no more."""
        self._relay.forget(self._jobs.revealed())


def check_message(check: Check) -> messages.Check:
    """A companion's step on the wire."""
    return messages.Check(
        job=check.job.id,
        graph=check.job.request["graph"],
        step=messages.CheckStep.Name(check.step),
        ready_at=check.ready_at,
        until=check.until,
        demands=[
            messages.Demand(id=demand.id, question=demand.question, expires_at=demand.deadline + 1)
            for demand in check.demands
        ],
    )


def _published(job: Job) -> Iterator[List]:
    for question, data in job.answered():
        decoded = Question.decode(question)
        if decoded.kind is QuestionKind.OPERATOR_ROOTS:
            yield decoded.step, decoded.subgraph, list_hash(data)


def _parse(kind: Any, data: bytes, context: Any) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the bytes are no {kind.DESCRIPTOR.name}")
