"""What methods stand on: the node's parts, limits, and one request's view of the chain."""

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from chain.blocks import Body, Header
from chain.engine import Transaction
from chain.errors import HyperdustError
from chain.params import ChainParams
from hyperdust.node.bitcoin import BitcoinChain
from hyperdust.node.builder import Template
from hyperdust.node.contracts import State
from hyperdust.node.foreign_pool import ForeignBuilder
from hyperdust.node.foreign_rules import ForeignRules
from hyperdust.node.importer import Listener
from hyperdust.node.mempool import Mempool
from hyperdust.node.peg import Peg
from hyperdust.node.rpc.blocks import BlockReader, FullBlock, require_hash, resolve_hash, resolve_number
from hyperdust.node.rpc.errors import LimitExceeded, ServerError, TimedOut
from hyperdust.node.rpc.feeds import Cursor, PendingFeed
from hyperdust.node.rpc.filters import Filters
from hyperdust.node.rpc.parameters import BlockReference
from hyperdust.node.rpc.rules import ChainRules, OwnRules
from hyperdust.node.store import ChainSnapshot, StateNotKept, StateView, Store
from hyperdust.node.votes import Votes

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client can make the node do."""

    body_bytes: int = 25 * 1024 * 1024
    batch: int = 1_000
    response_bytes: int = 25 * 1024 * 1024
    call_s: float = 30.0
    concurrent: int = 16
    waiting: int = 1_024
    log_blocks: int = 50_000
    log_results: int = 10_000
    usefulness_blocks: int = 10_000
    fee_history_blocks: int = 1_024
    call_gas: int = 50_000_000
    subscriptions: int = 128
    """For each connection."""


class HeadSource(Protocol):
    """What tells of new heads."""

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` after every commit."""


class PendingSource(Protocol):
    """What knows the next block."""

    def pending(self) -> Template:
        """As it would be now."""


@dataclass(frozen=True, slots=True)
class ForeignChain:
    """What an imported Ethereum chain has beside the parts that ours has too."""

    rules: ForeignRules
    builder: ForeignBuilder


@dataclass(frozen=True, slots=True)
class Backend:
    """The parts of a node that methods use; each is safe from any thread."""

    params: ChainParams
    store: Store
    importer: HeadSource
    mempool: Mempool
    builder: PendingSource
    version: str
    debug: bool = False
    archive: bool = False
    foreign: ForeignChain | None = None
    """Set where the chain is an imported one."""
    votes: Votes | None = None
    """Who settles checkpoints; an imported chain has nobody."""
    bitcoin: BitcoinChain | None = None
    """None: a node without Bitcoin."""
    peg: Peg | None = None
    """None: no Bitcoin, or a network without a peg."""
    limits: Limits = field(default_factory=Limits)
    blocks: BlockReader = field(default_factory=BlockReader)
    pending: PendingFeed = field(default_factory=PendingFeed)
    filters: Filters = field(default_factory=Filters)

    @property
    def rules(self) -> ChainRules:
        """The chain's."""
        if self.foreign is not None:
            return self.foreign.rules
        return OwnRules(self.params, self.bitcoin, None if self.peg is None else self.peg.anchors)


@dataclass(frozen=True, slots=True)
class Request:
    """One call's world: a backend and the chain as of one commit."""

    backend: Backend
    snapshot: ChainSnapshot
    deadline: float
    subscriptions: "Subscriptions | None" = None
    """Of the connection that asks; None over HTTP."""

    def check_time(self) -> None:
        """Give up once the call's time is over.

        Raises:
            TimedOut
        """
        if time.monotonic() > self.deadline:
            raise TimedOut

    def find_block(self, reference: BlockReference) -> FullBlock | None:
        """The block that a reference means, if any."""
        block_hash = resolve_hash(self.snapshot, reference, self.backend.rules)
        return None if block_hash is None else self.backend.blocks.block(self.snapshot, block_hash)

    def resolve_number(self, reference: BlockReference) -> int:
        """Height that a number or tag means; it may lie above the head.

        Raises:
            ServerError: header not found.
        """
        return resolve_number(self.snapshot, reference, self.backend.rules)

    def pending_block(self) -> tuple[FullBlock, Sequence[Transaction]]:
        """The block under construction; its hash is not what it will have once sealed."""
        template = self.backend.builder.pending()
        block = FullBlock(template.header.hash, template.header, Body(template.transactions, (), b""))
        return block, template.included

    def require_header(self, reference: BlockReference) -> tuple[bytes, Header]:
        """Hash and header of a block that has to exist.

        Raises:
            ServerError: header not found.
        """
        block_hash = require_hash(self.snapshot, reference, self.backend.rules)
        return block_hash, self.snapshot.require_header(block_hash)

    def state(self, reference: BlockReference) -> State:
        """State after the block that a reference means.

        Raises:
            ServerError: header not found, or its state is not kept.
        """
        if reference.tag == "pending":
            return self._pending_state()
        block_hash, header = self.require_header(reference)
        return State(header, self._state_at(self.snapshot, block_hash).read_many)

    def _pending_state(self) -> State:
        template = self.backend.builder.pending()
        below = self._state_at(self.backend.store.latest, template.parent_hash)
        written = dict(template.executed.writes)

        def read_many(keys: Sequence[bytes]) -> list[bytes | None]:
            missing = [key for key in keys if key not in written]
            found = dict(zip(missing, below.read_many(missing), strict=True)) if missing else {}
            return [written[key] if key in written else found[key] for key in keys]

        return State(template.header, read_many)

    @staticmethod
    def _state_at(snapshot: ChainSnapshot, block_hash: bytes) -> StateView:
        try:
            return snapshot.state_at(block_hash)
        except StateNotKept as error:
            raise ServerError(f"missing trie node: {error}") from error


class Subscriptions:
    """One connection's cursors by id. A new one is silent until `activate`, called once its id was sent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, Cursor] = {}
        self._active: dict[str, Cursor] = {}

    def add(self, cursor: Cursor, limit: int) -> str:
        """Keep a cursor; returns its id.

        Raises:
            LimitExceeded: too many on this connection.
        """
        with self._lock:
            if len(self._waiting) + len(self._active) >= limit:
                raise LimitExceeded(f"too many subscriptions, at most {limit} for each connection")
            identifier = "0x" + secrets.token_hex(16)
            self._waiting[identifier] = cursor
        return identifier

    def remove(self, identifier: str) -> bool:
        """Forget a cursor; False where there was none."""
        with self._lock:
            return (self._active.pop(identifier, None) or self._waiting.pop(identifier, None)) is not None

    def activate(self) -> bool:
        """Let new cursors speak; whether there are any."""
        with self._lock:
            new = bool(self._waiting)
            self._active |= self._waiting
            self._waiting = {}
        return new

    def advance(self, snapshot: ChainSnapshot) -> list[tuple[str, list[object]]]:
        """What is new, by subscription. A cursor that fails is dropped."""
        with self._lock:
            active = list(self._active.items())
        news: list[tuple[str, list[object]]] = []
        for identifier, cursor in active:
            try:
                news.append((identifier, cursor.advance(snapshot)))
            except HyperdustError as error:
                log.warning("subscription dropped", id=identifier, reason=str(error))
                self.remove(identifier)
        return news
