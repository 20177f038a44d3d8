"""What happened since a client last asked: cursors over heads, logs and waiting transactions.

A filter polls its cursor, a subscription is a cursor that is polled whenever something happened. Cursors read the
store, hold no lock over it and queue nothing, so a slow client costs nothing.
"""

import itertools
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from chain.blocks import Header
from chain.engine import Transaction
from chain.hashing import keccak256
from hyperdust.node.rpc.blocks import BlockReader, Log
from hyperdust.node.rpc.errors import LimitExceeded
from hyperdust.node.rpc.parameters import LogFilter
from hyperdust.node.rpc.shapes import Json, data, header_json, log_json, transaction_json
from hyperdust.node.store import ChainSnapshot

MAX_BEHIND_BLOCKS: Final = 50_000
_PENDING_KEPT: Final = 16_384


@dataclass(frozen=True, slots=True)
class Moves:
    """How the canonical chain moved between two looks."""

    abandoned: tuple[tuple[bytes, Header], ...]
    """Newest first."""
    adopted: tuple[tuple[bytes, Header], ...]
    """Oldest first."""


def find_moves(snapshot: ChainSnapshot, since: bytes) -> Moves:
    """Blocks that left and joined the canonical chain since `since` was its head.

    Raises:
        LimitExceeded: too many to list.
    """
    path = snapshot.path_to_canonical(since)
    ancestor = snapshot.require_header(path[-1]).number
    head = snapshot.head.number
    if head - ancestor > MAX_BEHIND_BLOCKS:
        raise LimitExceeded(f"filter is {head - ancestor} blocks behind, at most {MAX_BEHIND_BLOCKS}")
    adopted = [snapshot.canonical_hash(number) for number in range(ancestor + 1, head + 1)]
    return Moves(
        tuple((block_hash, snapshot.require_header(block_hash)) for block_hash in path[:-1]),
        tuple((block_hash, snapshot.require_header(block_hash)) for block_hash in adopted if block_hash is not None),
    )


def bloom_bits(value: bytes) -> int:
    """The three bits that an address or topic sets, as a number to test against a bloom read big-endian."""
    digest = keccak256(value)
    bits = 0
    for offset in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[offset : offset + 2], "big") & 2047)
    return bits


class LogMatcher:
    """Decides which logs a filter wants; blooms first."""

    def __init__(self, wanted: LogFilter) -> None:
        self._addresses = wanted.addresses
        self._topics = wanted.topics
        choices = [wanted.addresses, *wanted.topics]
        self._masks = [[bloom_bits(value) for value in choice] for choice in choices if choice]

    def may_match(self, bloom: bytes) -> bool:
        """False only where no log under this bloom can match."""
        if not self._masks:
            return any(bloom)
        bits = int.from_bytes(bloom, "big")
        return all(any(bits & mask == mask for mask in masks) for masks in self._masks)

    def matches(self, log: Log) -> bool:
        """Whether one log is wanted."""
        if self._addresses and log.address not in self._addresses:
            return False
        if len(self._topics) > len(log.topics):
            return False
        return all(not choice or topic in choice for choice, topic in zip(self._topics, log.topics, strict=False))


@dataclass(frozen=True, slots=True)
class FoundLog:
    """A log and its place."""

    log: Log
    block_hash: bytes
    header: Header
    transaction_hash: bytes
    transaction_index: int
    log_index: int

    def as_json(self, *, removed: bool = False) -> Json:
        """The log's JSON."""
        place = (self.transaction_hash, self.transaction_index, self.log_index)
        return log_json(self.log, (self.block_hash, self.header), place, removed=removed)


def find_logs(
    snapshot: ChainSnapshot, blocks: BlockReader, block_hash: bytes, header: Header, matcher: LogMatcher
) -> Iterator[FoundLog]:
    """A block's logs that match, in order."""
    if not matcher.may_match(header.logs_bloom):
        return
    hashes = snapshot.load_transaction_hashes(block_hash)
    counter = itertools.count()
    for index, receipt in enumerate(blocks.receipts(snapshot, block_hash)):
        for log in receipt.logs:
            log_index = next(counter)
            if matcher.matches(log):
                yield FoundLog(log, block_hash, header, hashes[index], index, log_index)


class Cursor(Protocol):
    """Something that can be asked again and again for what is new."""

    def advance(self, snapshot: ChainSnapshot) -> list[object]:
        """What is new since the last call, as JSON."""


class HashCursor:
    """Hashes of blocks that joined the chain: eth_newBlockFilter."""

    def __init__(self, since: bytes) -> None:
        self._since = since

    def advance(self, snapshot: ChainSnapshot) -> list[object]:
        """Hashes, oldest first."""
        moves = find_moves(snapshot, self._since)
        self._since = snapshot.head.hash
        return [data(block_hash) for block_hash, _ in moves.adopted]


class HeadCursor:
    """Headers of blocks that joined the chain: newHeads."""

    def __init__(self, since: bytes) -> None:
        self._since = since

    def advance(self, snapshot: ChainSnapshot) -> list[object]:
        """Headers, oldest first."""
        moves = find_moves(snapshot, self._since)
        self._since = snapshot.head.hash
        return [header_json(header, block_hash) for block_hash, header in moves.adopted]


class LogCursor:
    """Matching logs of blocks that joined or left the chain; the latter with `removed`."""

    def __init__(self, since: bytes, wanted: LogFilter, blocks: BlockReader) -> None:
        self._since = since
        self._matcher = LogMatcher(wanted)
        self._blocks = blocks

    def advance(self, snapshot: ChainSnapshot) -> list[object]:
        """Logs: removed ones newest first, then new ones oldest first."""
        moves = find_moves(snapshot, self._since)
        found: list[object] = []
        for block_hash, header in moves.abandoned:
            logs = list(find_logs(snapshot, self._blocks, block_hash, header, self._matcher))
            found.extend(log.as_json(removed=True) for log in reversed(logs))
        for block_hash, header in moves.adopted:
            logs = list(find_logs(snapshot, self._blocks, block_hash, header, self._matcher))
            found.extend(log.as_json() for log in logs)
        self._since = snapshot.head.hash
        return found


class PendingFeed:
    """The last transactions that entered the mempool, numbered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[Transaction] = deque(maxlen=_PENDING_KEPT)
        self._count = 0

    def add(self, transaction: Transaction) -> None:
        """The mempool's listener."""
        with self._lock:
            self._kept.append(transaction)
            self._count += 1

    @property
    def count(self) -> int:
        """How many ever came."""
        return self._count

    def since(self, count: int) -> tuple[list[Transaction], int]:
        """Transactions after the first `count`, as far as kept, and the new count."""
        with self._lock:
            new = min(self._count - count, len(self._kept))
            return list(itertools.islice(self._kept, len(self._kept) - new, None)), self._count


class PendingCursor:
    """Transactions that entered the mempool."""

    def __init__(self, feed: PendingFeed, *, full: bool) -> None:
        self._feed = feed
        self._full = full
        self._count = feed.count

    def advance(self, _snapshot: ChainSnapshot) -> list[object]:
        """Hashes, or whole transactions."""
        transactions, self._count = self._feed.since(self._count)
        if self._full:
            return [transaction_json(transaction, None, None) for transaction in transactions]
        return [data(transaction.hash) for transaction in transactions]
