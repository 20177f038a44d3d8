"""A role's end of the work API: the newest template, kept fresh for ever, and calls with deadlines."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog

from chain.errors import HyperdustError
from hyperdust.proto import work_pb2 as messages
from hyperdust.proto.work_pb2_grpc import WorkStub

log = structlog.get_logger()

_CALL_TIMEOUT_S: Final = 30.0
_BACKOFF_S: Final = (0.2, 5.0)  # first and longest pause before the stream is opened again
_SLICE_S: Final = 0.25
_MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_http_proxy", 0),
)


@dataclass(frozen=True, slots=True)
class Work:
    """What a draw needs of a template."""

    template_id: int
    parent_hash: bytes
    seal_hash: bytes
    number: int
    difficulty: int


class WorkUnreachable(HyperdustError):
    """The node did not answer on the work API."""


class QuestionRefused(HyperdustError):
    """The node does not pass a question on: it is about nothing committed to, or the job is decided."""


class WorkClient:
    """Safe to use from any thread. `start` opens the stream in a thread; `close` ends it."""

    def __init__(
        self,
        address: str,
        coinbase: bytes,
        graphs: Sequence[bytes],
        stop: threading.Event,
        *,
        companion: bool = False,
        watch: Sequence[int] = (),
    ) -> None:
        self._address = address
        self._stop = stop
        self._request = messages.TemplateRequest(coinbase=coinbase, graphs=graphs, companion=companion, watch=watch)
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._stub: Any = WorkStub(self._channel)
        self._changed = threading.Condition()
        self._latest: messages.Template | None = None
        self._spent = 0
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="templates", daemon=True)

    def start(self) -> None:
        """Follow the node's templates from now on."""
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._closed.set()
        self._channel.close()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    @property
    def latest(self) -> messages.Template | None:
        """The newest message; None while the node is away."""
        return self._latest

    def work(self) -> Work | None:
        """What may be drawn on now; None while no template is open."""
        message = self._latest
        if message is None or not message.open or message.id == self._spent:
            return None
        return Work(
            message.id,
            message.parent_hash,
            message.seal_hash,
            message.number,
            int.from_bytes(message.difficulty, "big"),
        )

    def wait(self, seen: messages.Template | None, timeout_s: float) -> None:
        """Wait until the newest message is another one than `seen`, until stopped, or for the time given."""
        self._wait_for(lambda: self._latest is not seen, timeout_s)

    def wait_for_work(self, timeout_s: float) -> None:
        """Wait until a template is open, until stopped, or for the time given."""
        self._wait_for(lambda: self.work() is not None, timeout_s)

    def _wait_for(self, holds: Callable[[], bool], timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        with self._changed:
            # In slices: a signal handler can set an event, but must not take a lock.
            while not (holds() or self._stop.is_set() or self._closed.is_set()) and time.monotonic() < until:
                self._changed.wait(min(_SLICE_S, max(until - time.monotonic(), 0.0)))

    def spend(self, template_id: int) -> None:
        """Draw no more on this template: a ticket of it is on its way."""
        self._spent = template_id

    def unspend(self, template_id: int) -> None:
        """Draw on it again: its ticket was refused."""
        with self._changed:
            if self._spent == template_id:
                self._spent = 0
            self._changed.notify_all()

    def submit_ticket(self, template_id: int, nonce: bytes, certificate: bytes) -> messages.Verdict:
        """Hand in a ticket.

        Raises:
            WorkUnreachable
        """
        ticket = messages.Ticket(template_id=template_id, nonce=nonce, certificate=certificate)
        answer: messages.Verdict = self._call(self._stub.SubmitTicket, ticket)
        return answer

    def submit_result(self, result: messages.Result) -> messages.Verdict:
        """Hand in a job's result or its next transaction.

        Raises:
            WorkUnreachable
        """
        answer: messages.Verdict = self._call(self._stub.SubmitResult, result)
        return answer

    def submit_vote(self, vote: messages.Vote) -> messages.Verdict:
        """Hand in a signed finality vote.

        Raises:
            WorkUnreachable
        """
        answer: messages.Verdict = self._call(self._stub.SubmitVote, vote)
        return answer

    def get_job(self, job: int) -> messages.Job:
        """A job with its input.

        Raises:
            WorkUnreachable
        """
        answer: messages.Job = self._call(self._stub.GetJob, messages.JobRequest(id=job))
        return answer

    def get_data(self, request: messages.DataRequest) -> messages.Data | None:
        """What a provider committed to; None while it is asked.

        Raises:
            WorkUnreachable
            QuestionRefused: the node says that nothing is to be had; asking again does not help.
        """
        try:
            answer: messages.Data = self._call(self._stub.GetData, request)
        except WorkUnreachable as error:
            code = _code(error.__cause__)
            if code in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.RESOURCE_EXHAUSTED}:
                return None
            if code in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION}:
                raise QuestionRefused(str(error)) from error
            raise
        return answer

    def submit_data(self, data: messages.Data) -> messages.Verdict:
        """Answer a question.

        Raises:
            WorkUnreachable
        """
        answer: messages.Verdict = self._call(self._stub.SubmitData, data)
        return answer

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=_CALL_TIMEOUT_S)
        except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed
            raise WorkUnreachable(f"work API at {self._address}: {_reason(error)}") from error

    def _follow(self) -> None:
        pause_s = _BACKOFF_S[0]
        while not self._closed.is_set():
            try:
                for message in self._stub.GetTemplate(self._request):
                    pause_s = _BACKOFF_S[0]
                    self._set(message)
                reason = "the stream ended"
            except (grpc.RpcError, ValueError) as error:
                reason = _reason(error)
            if self._closed.is_set():
                return
            if self._latest is not None or pause_s == _BACKOFF_S[0]:
                log.info("node away, reconnecting", work_grpc=self._address, reason=reason)
            self._set(None)
            self._closed.wait(pause_s)
            pause_s = min(2 * pause_s, _BACKOFF_S[1])

    def _set(self, message: messages.Template | None) -> None:
        with self._changed:
            self._latest = message
            self._changed.notify_all()


def _code(error: object) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.Call) else None


def _reason(error: Exception) -> str:
    return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)
