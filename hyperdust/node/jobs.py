"""Unfinished jobs, as the logs of JobMarket and Court on the canonical chain tell them: whose step is the next.

A job's input stands in its `Requested` log alone, so the index reads receipts; it is rebuilt from the chain at start.
"""

import threading
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import rlp
import structlog

from chain.errors import HyperdustError
from chain.hashing import keccak256
from chain.params import COURT, JOB_MARKET, ChainParams
from hyperdust.contracts_abi import ADDRESSES, decode_event, event_topic
from hyperdust.node.contracts import State, ViewFailed, view
from hyperdust.node.job_record import EVENTS, STATUS_AFTER, Demand, Event, Job, Status, address_bytes
from hyperdust.node.store import ChainSnapshot, Store, StoreFault

log = structlog.get_logger()

MAX_JOBS: Final = 4_096
MAX_EVENTS: Final = 128  # of one job: a request, five steps, 24 demands with answers, and what holds it
SCAN_BLOCKS: Final = 50_000  # how far back a start looks for unfinished jobs: half of the time that credit lives
_WINDOWS: Final = ("takeover_blocks", "reveal_window", "companion_window")


@dataclass(frozen=True, slots=True)
class Offer:
    """A step that a provider may take."""

    job: Job
    status: Status
    ready_at: int
    """First block in which it may."""
    assigned: bool = False
    """Named or drawn: a missed deadline pauses this provider."""


class CheckStep(IntEnum):
    """What a companion does next; the work API's numbers."""

    COMMIT = 1
    REVEAL = 2
    PROVE = 3
    REFUND = 4


@dataclass(frozen=True, slots=True)
class Check:
    """A step that a companion may take."""

    job: Job
    step: CheckStep
    ready_at: int
    """First block in which it may."""
    until: int
    """Last one."""
    demands: tuple[Demand, ...] = ()
    """Its own, unanswered."""


@dataclass(frozen=True, slots=True)
class _Windows:
    """Numbers of the network, as JobMarket keeps them."""

    takeover_blocks: int
    reveal_window: int
    companion_window: int


class JobIndex:
    """Jobs by id, up to `head`. Safe to use from any thread."""

    def __init__(self, params: ChainParams, store: Store) -> None:
        self._params = params
        self._store = store
        self._lock = threading.RLock()
        self._jobs: dict[int, Job] = {}
        self._version = 0
        self._topics = {
            (ADDRESSES[contract], event_topic(contract, name)): (contract, name)
            for contract, names in EVENTS.items()
            for name in names
        }
        self._windows: _Windows | None = None
        self._bonded: tuple[bytes, dict[tuple[bytes, bytes], bool]] = (b"", {})
        """As of a head: (graph, provider) -> whether its submissions are taken."""
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
        """Who is to execute a requested job, as of the head; None while nobody is drawn, and where that one left."""
        named = address_bytes(job.request["provider"])
        if any(named):
            return named
        if job.last("Declined") is not None:
            return None
        job.drawn = self._draw(job, job.drawn, job.events[0].number + 1, "provider_of")
        return job.drawn[1] if job.drawn is not None and any(job.drawn[1]) else None

    def companion_of(self, job: Job) -> bytes | None:
        """Who checks a submitted job, as of the head; None while nobody is drawn, and where nobody checks it."""
        submitted = job.last("Submitted")
        if job.companion is not None or submitted is None:
            return job.companion
        job.drawn_companion = self._draw(job, job.drawn_companion, submitted.number + 2, "companion_of")
        return job.drawn_companion[1] if job.drawn_companion is not None and any(job.drawn_companion[1]) else None

    def offers(self, provider: bytes, graphs: Sequence[bytes], limit: int = 64) -> list[Offer]:
        """Steps that are this provider's to take, best fee first."""
        jobs = self._open_jobs(graphs)
        jobs.sort(key=lambda job: (-int(job.request["fee"]), job.id))
        found = []
        for job in jobs:
            offer = self._offer(job, provider)
            if offer is not None:
                found.append(offer)
                if len(found) == limit:
                    break
        return found

    def checks(self, companion: bytes, graphs: Sequence[bytes], limit: int = 64) -> list[Check]:
        """Steps that are this companion's to take, those about to lapse first."""
        found = [self._check(job, companion) for job in self._open_jobs(graphs)]
        return sorted((check for check in found if check is not None), key=lambda check: check.until)[:limit]

    def challenges(self, challenger: bytes, watched: Sequence[int]) -> list[Check]:
        """What anybody may do about revealed jobs."""
        with self._lock:
            jobs = [self._jobs[job] for job in watched if job in self._jobs]
        return [
            self._find_challenge(job, revealed.number, challenger)
            for job in jobs
            if job.status is Status.REVEALED and (revealed := job.last("Revealed")) is not None
        ]

    def revealed_by(self, provider: bytes) -> list[Job]:
        """Jobs of a provider about which questions may be asked."""
        with self._lock:
            return [job for job in self._jobs.values() if job.status is Status.REVEALED and job.provider == provider]

    def revealed(self) -> set[int]:
        """Every job about which questions may be asked."""
        with self._lock:
            return {job.id for job in self._jobs.values() if job.status is Status.REVEALED}

    def _open_jobs(self, graphs: Sequence[bytes]) -> list[Job]:
        with self._lock:
            return [job for job in self._jobs.values() if job.status in {1, 2, 3} and job.request["graph"] in graphs]

    def _offer(self, job: Job, provider: bytes) -> Offer | None:
        if job.status is Status.REQUESTED:
            return self._offer_request(job, provider)
        submitted, windows = job.last("Submitted"), self._load_windows()
        if submitted is None or windows is None or job.provider != provider:
            return None
        if job.status is Status.CLAIMED:
            until = max(submitted.number + windows.reveal_window, job.held_until)
            if self._store.latest.head.number >= until:
                return None
            # A companion is drawn by the second block; it commits first, or lets its window pass.
            ready_at = submitted.number + 3
            if job.companion is None and self.companion_of(job) is not None:
                ready_at = submitted.number + windows.companion_window + 1
            return Offer(job, job.status, ready_at)
        revealed = job.last("Revealed")
        if revealed is None or any(job.open_demands()):
            return None
        ready_at = max(revealed.number + self._params.final_window_blocks, job.held_until + 1)
        return Offer(job, job.status, ready_at)

    def _offer_request(self, job: Job, provider: bytes) -> Offer | None:
        head, requested = self._store.latest.head.number, job.events[0].number
        if head >= int(job.request["deadline"]):
            return None
        assigned = self.provider_of(job)
        if assigned == provider:
            return Offer(job, job.status, requested + 1, assigned=True)
        if any(address_bytes(job.request["provider"])):
            return None  # a named provider's job is nobody else's
        if not self._is_bonded(job.request["graph"], provider):
            return None
        declined = job.last("Declined")
        if declined is not None:
            own = address_bytes(declined.values["provider"]) == provider
            return None if own else Offer(job, job.status, declined.number + 1)
        if assigned is None and head > requested:  # the drawn one left or is paused
            return Offer(job, job.status, requested + 1)
        windows = self._load_windows()
        return Offer(job, job.status, requested + windows.takeover_blocks + 1) if windows is not None else None

    def _check(self, job: Job, companion: bytes) -> Check | None:
        submitted, windows = job.last("Submitted"), self._load_windows()
        if submitted is None or windows is None or self.companion_of(job) != companion:
            return None
        found = self._check_step(job, companion, submitted.number, windows)
        if found is None or found.until <= self._store.latest.head.number:
            return None
        return found

    def _check_step(self, job: Job, companion: bytes, submitted: int, windows: _Windows) -> Check | None:
        opened, revealed = job.last("CompanionRevealed"), job.last("Revealed")
        if job.companion is not None and opened is None:
            since = revealed.number if revealed is not None else submitted + windows.reveal_window
            if self._store.latest.head.number < since + windows.reveal_window:
                return Check(job, CheckStep.REVEAL, since + 1, since + windows.reveal_window)
        if revealed is not None:
            return self._find_challenge(job, revealed.number, companion)
        if opened is None:
            return Check(job, CheckStep.COMMIT, submitted + 3, submitted + windows.companion_window)
        if opened.values["agrees"]:
            return None
        # Its provider hides: after the window a refund convicts it.
        return Check(job, CheckStep.REFUND, job.held_until + 1, 2**63)

    def _find_challenge(self, job: Job, revealed: int, challenger: bytes) -> Check:
        """Anyone may prove until the job may become final; a trace that agrees may still come with another output."""
        demands = tuple(demand for demand in job.open_demands() if demand.asker == challenger)
        until = max(job.held_until, revealed + self._params.final_window_blocks - 1)
        return Check(job, CheckStep.PROVE, 0, 2**63 if demands else until, demands)

    def _draw(
        self, job: Job, known: tuple[bytes, bytes] | None, number: int, function: str
    ) -> tuple[bytes, bytes] | None:
        drawing = self._store.latest.canonical_hash(number)
        if drawing is None:
            return None
        if known is not None and known[0] == drawing:
            return known
        try:
            (account,) = view(self._head_state(), self._params, "JobMarket", function, job.id)
        except ViewFailed:
            return None
        return drawing, address_bytes(account)

    def _is_bonded(self, graph: bytes, provider: bytes) -> bool:
        head = self._store.latest.head.hash
        if self._bonded[0] != head:
            self._bonded = (head, {})
        known = self._bonded[1]
        if (graph, provider) not in known:
            try:
                (found,) = view(self._head_state(), self._params, "Bonds", "is_provider", graph, provider)
            except ViewFailed:
                found = False
            known[graph, provider] = bool(found)
        return known[graph, provider]

    def _load_windows(self) -> _Windows | None:
        if self._windows is None:
            try:
                state = self._head_state()
                values = [view(state, self._params, "JobMarket", name)[0] for name in _WINDOWS]
            except HyperdustError:
                return None
            self._windows = _Windows(*(int(str(value)) for value in values))
        return self._windows

    def _head_state(self) -> State:
        snapshot = self._store.latest
        return State(snapshot.head.header, snapshot.state_at(snapshot.head.hash).read_many)

    def _read_block(self, snapshot: ChainSnapshot, block_hash: bytes | None) -> None:
        if block_hash is None:
            raise StoreFault("the database lacks a canonical block")
        header = snapshot.require_header(block_hash)
        if _bloom_has(header.logs_bloom, JOB_MARKET) or _bloom_has(header.logs_bloom, COURT):
            for receipt in snapshot.load_receipts(block_hash):
                for address, topics, data in _logs(receipt):
                    known = self._topics.get((address, topics[0])) if topics else None
                    if known is not None:
                        values = decode_event(*known, topics, data)
                        self._apply(Event(known[1], block_hash, header.number, values))
        self._head = block_hash

    def _apply(self, event: Event) -> None:
        job_id = int(event.values["job"])
        job = self._jobs.get(job_id)
        if job is None:
            if event.name != "Requested":
                return
            job = self._jobs[job_id] = Job(job_id)
        if len(job.events) >= MAX_EVENTS and event.name not in STATUS_AFTER:
            return
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


def _bloom_has(bloom: bytes, value: bytes) -> bool:
    digest = keccak256(value)
    for place in (0, 2, 4):
        bit = int.from_bytes(digest[place : place + 2], "big") & 2047
        if not bloom[255 - bit // 8] >> (bit % 8) & 1:
            return False
    return True
