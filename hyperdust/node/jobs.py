"""Unfinished jobs, as JobMarket's logs on the canonical chain tell them: what a provider may or has to act on next.

A job's input stands in its `Requested` log alone, so the index reads receipts; it is rebuilt from the chain at start.
"""

import threading
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

import rlp
import structlog

from chain.errors import HyperdustError
from chain.hashing import keccak256
from chain.params import JOB_MARKET, ChainParams
from hyperdust.contracts_abi import decode_event, event_topic
from hyperdust.node.contracts import State, ViewFailed, view
from hyperdust.node.store import ChainSnapshot, Store, StoreFault

log = structlog.get_logger()

MAX_JOBS: Final = 4_096
SCAN_BLOCKS: Final = 50_000  # how far back a start looks for unfinished jobs: half of the time that credit lives


class Status(IntEnum):
    """JobMarket's states."""

    NONE = 0
    REQUESTED = 1
    CLAIMED = 2
    REVEALED = 3
    FINAL = 4
    REFUNDED = 5


_STATUS_AFTER: Final = {
    "Requested": Status.REQUESTED,
    "Submitted": Status.CLAIMED,
    "Revealed": Status.REVEALED,
    "Settled": Status.FINAL,
    "Refunded": Status.REFUNDED,
}


@dataclass(frozen=True, slots=True)
class Event:
    """One log of JobMarket about one job."""

    name: str
    block_hash: bytes
    number: int
    values: dict[str, Any]


@dataclass(slots=True)
class Job:
    """A job and what happened to it, oldest first; the first event is its request."""

    id: int
    events: list[Event] = field(default_factory=list)
    drawn: tuple[bytes, bytes] | None = None
    """(hash of the block whose beacon drew, provider): holds while that block is canonical."""

    @property
    def request(self) -> dict[str, Any]:
        """Fields of `Requested`."""
        return self.events[0].values

    @property
    def status(self) -> Status:
        """State after the last event."""
        return _STATUS_AFTER[self.events[-1].name]

    def last(self, name: str) -> Event | None:
        """The newest event of a kind."""
        return next((event for event in reversed(self.events) if event.name == name), None)


@dataclass(frozen=True, slots=True)
class Offer:
    """A step that a provider may take."""

    job: Job
    status: Status
    ready_at: int
    """First block in which it may."""


class JobIndex:
    """Jobs by id, up to `head`. Safe to use from any thread."""

    def __init__(self, params: ChainParams, store: Store) -> None:
        self._params = params
        self._store = store
        self._lock = threading.RLock()
        self._jobs: dict[int, Job] = {}
        self._version = 0
        self._topics = {event_topic("JobMarket", name): name for name in _STATUS_AFTER}
        self._takeover_blocks: int | None = None
        snapshot = store.latest
        first = max(0, snapshot.head.number - SCAN_BLOCKS)
        self._head = snapshot.canonical_hash(first) or snapshot.genesis_hash
        self.catch_up()

    @property
    def version(self) -> int:
        """Grows with every event."""
        return self._version

    def get(self, job: int) -> Job | None:
        """An unfinished or recently finished job."""
        with self._lock:
            return self._jobs.get(job)

    @property
    def head(self) -> bytes:
        """The block up to which the index has read."""
        return self._head

    def catch_up(self) -> None:
        """Follow the store's head, over any reorganisation."""
        with self._lock:
            snapshot = self._store.latest
            abandoned = set()
            while not snapshot.is_canonical(self._head):
                abandoned.add(self._head)
                self._head = snapshot.require_header(self._head).parent_hash
            if abandoned:
                self._forget(abandoned)
            first = snapshot.require_header(self._head).number + 1
            for number in range(first, snapshot.head.number + 1):
                self._read_block(snapshot, snapshot.canonical_hash(number))
            self._bound(snapshot.head.number)

    def provider_of(self, job: Job) -> bytes | None:
        """Who is to execute a requested job, as of the head; None while nobody is drawn."""
        named = _address(job.request["provider"])
        if any(named):
            return named
        snapshot = self._store.latest
        drawing = snapshot.canonical_hash(job.events[0].number + 1)
        if drawing is None:
            return None
        if job.drawn is None or job.drawn[0] != drawing:
            try:
                (provider,) = view(self._head_state(), self._params, "JobMarket", "provider_of", job.id)
            except ViewFailed:
                return None
            job.drawn = (drawing, _address(provider))
        return job.drawn[1] if any(job.drawn[1]) else None

    def offers(self, provider: bytes, graphs: Sequence[bytes], limit: int = 64) -> list[Offer]:
        """Steps that are this provider's to take, best fee first."""
        with self._lock:
            jobs = [job for job in self._jobs.values() if job.status in {1, 2, 3} and job.request["graph"] in graphs]
        jobs.sort(key=lambda job: (-int(job.request["fee"]), job.id))
        found = []
        for job in jobs:
            offer = self._offer(job, provider)
            if offer is not None:
                found.append(offer)
                if len(found) == limit:
                    break
        return found

    def _offer(self, job: Job, provider: bytes) -> Offer | None:
        status, requested = job.status, job.events[0].number
        if status is Status.REQUESTED:
            if self._store.latest.head.number >= int(job.request["deadline"]):
                return None
            drawn = self.provider_of(job)
            if drawn == provider:
                return Offer(job, status, requested + 1)
            if any(_address(job.request["provider"])):
                return None  # a named provider's job is nobody else's
            takeover = self._load_takeover_blocks()
            return Offer(job, status, requested + takeover + 1) if takeover is not None else None
        submitted = job.last("Submitted")
        if submitted is None or _address(submitted.values["provider"]) != provider:
            return None
        if status is Status.CLAIMED:
            return Offer(job, status, submitted.number + 1)
        revealed = job.last("Revealed")
        if revealed is None:
            return None
        return Offer(job, status, revealed.number + self._params.final_window_blocks)

    def _load_takeover_blocks(self) -> int | None:
        if self._takeover_blocks is None:
            try:
                (blocks,) = view(self._head_state(), self._params, "JobMarket", "takeover_blocks")
            except HyperdustError:
                return None
            self._takeover_blocks = int(str(blocks))
        return self._takeover_blocks

    def _head_state(self) -> State:
        snapshot = self._store.latest
        return State(snapshot.head.header, snapshot.state_at(snapshot.head.hash).read_many)

    def _read_block(self, snapshot: ChainSnapshot, block_hash: bytes | None) -> None:
        if block_hash is None:
            raise StoreFault("the database lacks a canonical block")
        header = snapshot.require_header(block_hash)
        if _bloom_has(header.logs_bloom, JOB_MARKET):
            for receipt in snapshot.load_receipts(block_hash):
                for address, topics, data in _logs(receipt):
                    name = self._topics.get(topics[0]) if address == JOB_MARKET and topics else None
                    if name is not None:
                        values = decode_event("JobMarket", name, topics, data)
                        self._apply(Event(name, block_hash, header.number, values))
        self._head = block_hash

    def _apply(self, event: Event) -> None:
        job_id = int(event.values["job"])
        job = self._jobs.get(job_id)
        if job is None:
            if event.name != "Requested":
                return
            job = self._jobs[job_id] = Job(job_id)
        job.events.append(event)
        self._version += 1

    def _forget(self, abandoned: Container[bytes]) -> None:
        for job in list(self._jobs.values()):
            job.events = [event for event in job.events if event.block_hash not in abandoned]
            if not job.events:
                del self._jobs[job.id]
        self._version += 1

    def _bound(self, head: int) -> None:
        """Finished and expired jobs leave first, then those that pay least."""
        excess = len(self._jobs) - MAX_JOBS
        if excess <= 0:
            return

        def worth(job: Job) -> tuple[bool, int, int]:
            expired = job.status is Status.REQUESTED and int(job.request["deadline"]) < head
            return job.status < Status.FINAL and not expired, int(job.request["fee"]), job.id

        for job in sorted(self._jobs.values(), key=worth)[:excess]:
            del self._jobs[job.id]


def _logs(receipt: bytes) -> Iterator[tuple[bytes, list[bytes], bytes]]:
    """(address, topics, data) of an EIP-2718 encoded receipt."""
    body = receipt if receipt[0] >= 0xC0 else receipt[1:]
    for address, topics, data in rlp.decode(body)[3]:
        yield address, list(topics), data


def _address(value: object) -> bytes:
    return bytes.fromhex(str(value)[2:])


def _bloom_has(bloom: bytes, value: bytes) -> bool:
    digest = keccak256(value)
    for place in (0, 2, 4):
        bit = int.from_bytes(digest[place : place + 2], "big") & 2047
        if not bloom[255 - bit // 8] >> (bit % 8) & 1:
            return False
    return True
