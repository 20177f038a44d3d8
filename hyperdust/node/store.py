"""The chain's database: the only file that knows LevelDB. One synced batch per change of head.

Layout (one-byte prefix, then key): S state (the engine's keys, `chain.state`) · H header · B body · R receipts ·
M meta (ticket, total difficulty) · T transaction hashes · N canonical hash by number · X transaction place ·
U undo record of a canonical block · W state writes of a side block · I singletons (schema, genesis, head, finality) ·
V votes and E evidence (`hyperdust.node.votes`) · O Bitcoin's headers (`hyperdust.node.bitcoin`) · K evidence, announced
deposits and anchors of the peg (`hyperdust.node.peg`). State has one key of ours: the peg's (`chain.state.PEG_KEY`).
Over 400 lines: one file reads and writes every key of a block.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import plyvel
import rlp

from chain.blocks import Block, Body, Header, decode_body, decode_header, encode_body
from chain.errors import NodeFault
from chain.state import decode_writes, encode_writes
from consensus.finality import Checkpoint, Finality, start_of_finality

SCHEMA: Final = 2
UNDO_BLOCKS: Final = 4096  # how far back state can be read without --archive; further where that is not final yet
_PRUNED_AT_ONCE: Final = 64  # undo records that one commit may drop

_HEAD: Final = b"Ihead"
_GENESIS: Final = b"Igenesis"
_SCHEMA: Final = b"Ischema"
_FINALITY: Final = b"Ifinality"
_PRUNED: Final = b"Ipruned"

StateWrites = Sequence[tuple[bytes, bytes | None]]


@dataclass(frozen=True, slots=True)
class BlockCodec:
    """How headers and bodies lie in the database."""

    decode_header: Callable[[bytes], Header]
    encode_body: Callable[[Body], bytes]
    decode_body: Callable[[bytes], Body]


OWN_CODEC: Final = BlockCodec(decode_header, encode_body, decode_body)
"""Our chain's; an imported foreign chain brings its own."""


class StoreFault(NodeFault):
    """The database cannot be opened, read or written; the message names the cause and the next step."""


class UnknownBlock(NodeFault):
    """A block that the store does not hold."""

    def __init__(self, block_hash: bytes) -> None:
        super().__init__(f"block 0x{block_hash.hex()} is not in the database")


class StateNotKept(NodeFault):
    """State of a block whose undo records were dropped."""

    def __init__(self, number: int) -> None:
        super().__init__(f"state of block {number} is not kept; run the node with --archive to keep all")


@dataclass(frozen=True, slots=True)
class Head:
    """The tip of the canonical chain."""

    hash: bytes
    header: Header
    ticket: bytes
    total_difficulty: int

    @property
    def number(self) -> int:
        """Height."""
        return self.header.number


@dataclass(frozen=True, slots=True)
class ExecutedBlock:
    """A valid block with what its execution gave: all that a commit needs."""

    block: Block
    hash: bytes
    ticket: bytes
    total_difficulty: int
    transaction_hashes: tuple[bytes, ...]
    receipts: tuple[bytes, ...]
    """EIP-2718 encodings."""
    writes: tuple[tuple[bytes, bytes | None], ...]
    """State writes, `chain.state` keys."""

    @property
    def head(self) -> Head:
        """This block as a head."""
        return Head(self.hash, self.block.header, self.ticket, self.total_difficulty)


class StateView:
    """State after one block: a database snapshot under an overlay. `read_many` is what the engine calls."""

    def __init__(self, snapshot: Any, overlay: Mapping[bytes, bytes | None]) -> None:
        self._snapshot = snapshot
        self._overlay = overlay

    def read_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Values in the order of `keys`; None where absent."""
        return [self._read(key) for key in keys]

    def _read(self, key: bytes) -> bytes | None:
        if key in self._overlay:
            return self._overlay[key]
        stored = b"N" + key[1:] if key[:1] == b"h" else b"S" + key
        value: bytes | None = self._snapshot.get(stored)
        return value


@dataclass(frozen=True, slots=True)
class Reorganisation:
    """What a new head changed."""

    abandoned: tuple[bytes, ...]
    """Hashes of blocks that left the canonical chain, newest first; usually none."""
    adopted: tuple[bytes, ...]
    """Hashes of blocks that joined it, oldest first."""


class ChainSnapshot:
    """Everything that the database says as of one commit: blocks, indexes, state. Safe to use from any thread."""

    def __init__(self, snapshot: Any, codec: BlockCodec = OWN_CODEC) -> None:
        self._snapshot = snapshot
        self._codec = codec
        head_hash = self.get(_HEAD)
        self._head = self._load_head(head_hash) if head_hash else None

    @property
    def head(self) -> Head:
        """The canonical tip."""
        if self._head is None:
            raise StoreFault("the database has no genesis")
        return self._head

    @property
    def is_empty(self) -> bool:
        """Whether no genesis was written yet."""
        return self._head is None

    @property
    def genesis_hash(self) -> bytes:
        """Hash of block 0."""
        return self.require(_GENESIS)

    @property
    def finality(self) -> Finality:
        """What is final and justified; genesis at first."""
        data = self.get(_FINALITY)
        if data is None:
            return start_of_finality(self.genesis_hash)
        places = [
            Checkpoint(int.from_bytes(data[i : i + 8], "big"), data[i + 8 : i + 40]) for i in range(0, len(data), 40)
        ]
        return Finality(places[0], tuple(places[1:]))

    def load_header(self, block_hash: bytes) -> Header | None:
        """Header of any known block, canonical or not."""
        data = self.get(b"H" + block_hash)
        return self._codec.decode_header(data) if data else None

    def require_header(self, block_hash: bytes) -> Header:
        """Header of a block that has to be there.

        Raises:
            UnknownBlock
        """
        header = self.load_header(block_hash)
        if header is None:
            raise UnknownBlock(block_hash)
        return header

    def load_body(self, block_hash: bytes) -> Body | None:
        """Body of any known block."""
        data = self.get(b"B" + block_hash)
        return self._codec.decode_body(data) if data else None

    def load_encoded_body(self, block_hash: bytes) -> bytes | None:
        """The same as it lies in the database: `encode_body` of it."""
        return self.get(b"B" + block_hash)

    def load_receipts(self, block_hash: bytes) -> tuple[bytes, ...]:
        """EIP-2718 encoded receipts of a known block."""
        return tuple(rlp.decode(self.require(b"R" + block_hash)))

    def load_ticket(self, block_hash: bytes) -> bytes:
        """The ticket of a known block; zero for genesis."""
        return self.require(b"M" + block_hash)[:32]

    def load_total_difficulty(self, block_hash: bytes) -> int:
        """Cumulative difficulty up to and with a known block."""
        return int.from_bytes(self.require(b"M" + block_hash)[32:], "big")

    def load_transaction_hashes(self, block_hash: bytes) -> list[bytes]:
        """Hashes of a known block's transactions, in order."""
        joined = self.require(b"T" + block_hash)
        return [joined[i : i + 32] for i in range(0, len(joined), 32)]

    def canonical_hash(self, number: int) -> bytes | None:
        """Hash of the canonical block at a height."""
        return self.get(b"N" + number.to_bytes(8, "big")) if 0 <= number < 1 << 64 else None

    def is_canonical(self, block_hash: bytes) -> bool:
        """Whether a block lies on the canonical chain."""
        header = self.load_header(block_hash)
        return header is not None and self.canonical_hash(header.number) == block_hash

    def locate_transaction(self, transaction_hash: bytes) -> tuple[bytes, int] | None:
        """(block hash, index) of a canonical transaction."""
        place = self.get(b"X" + transaction_hash)
        return (place[:32], int.from_bytes(place[32:], "big")) if place else None

    def state_at(self, block_hash: bytes) -> StateView:
        """State after a known block.

        Raises:
            UnknownBlock, StateNotKept
        """
        path = self.path_to_canonical(block_hash)
        overlay: dict[bytes, bytes | None] = {}
        for canonical_hash, header in self.canonical_down_to(path[-1]):
            undo = self.get(b"U" + canonical_hash)
            if undo is None:
                raise StateNotKept(header.number - 1)
            overlay.update(decode_writes(undo))
        for side_hash in reversed(path[:-1]):
            overlay.update(decode_writes(self.require(b"W" + side_hash)))
            overlay[b"h" + self.require_header(side_hash).number.to_bytes(8, "big")] = side_hash
        return StateView(self._snapshot, overlay)

    def path_to_canonical(self, block_hash: bytes) -> list[bytes]:
        """Hashes from a block down to its first canonical ancestor (itself, where it is canonical)."""
        path = [block_hash]
        while True:
            header = self.require_header(path[-1])
            if self.canonical_hash(header.number) == path[-1]:
                return path
            path.append(header.parent_hash)

    def canonical_down_to(self, ancestor: bytes) -> Iterator[tuple[bytes, Header]]:
        """Canonical blocks from the head down to, and without, an ancestor."""
        block_hash = self.head.hash
        while block_hash != ancestor:
            header = self.require_header(block_hash)
            yield block_hash, header
            block_hash = header.parent_hash

    def get(self, key: bytes) -> bytes | None:
        """One raw record."""
        try:
            value: bytes | None = self._snapshot.get(key)
        except plyvel.Error as error:
            raise StoreFault(f"reading the database failed: {error}") from error
        return value

    def require(self, key: bytes) -> bytes:
        """One raw record that has to be there."""
        value = self.get(key)
        if value is None:
            raise StoreFault(f"the database lacks record {key[:1].decode()} 0x{key[1:].hex()}")
        return value

    def _load_head(self, block_hash: bytes) -> Head:
        header = self.load_header(block_hash)
        if header is None:
            raise StoreFault(
                "the database names a head that it does not hold; restore a copy or delete the data folder"
            )
        return Head(block_hash, header, self.load_ticket(block_hash), self.load_total_difficulty(block_hash))


class Store:
    """The one writer. Readers take `latest` and keep it for as long as they need one consistent view."""

    def __init__(self, database: Any, *, archive: bool, codec: BlockCodec = OWN_CODEC) -> None:
        self._db = database
        self._archive = archive
        self._codec = codec
        self._latest = ChainSnapshot(database.snapshot(), codec)

    @property
    def latest(self) -> ChainSnapshot:
        """The database as of the last commit."""
        return self._latest

    def write_genesis(self, genesis: ExecutedBlock) -> None:
        """Write block 0 and its state into an empty database."""
        with self._commit() as batch:
            _put_block(batch, genesis, self._codec)
            _index(batch, genesis.hash, genesis.block.header.number, genesis.transaction_hashes)
            for key, value in genesis.writes:
                _put(batch, b"S" + key, value)
            batch.put(_GENESIS, genesis.hash)
            batch.put(_SCHEMA, SCHEMA.to_bytes(4, "big"))
            batch.put(_HEAD, genesis.hash)

    def keep_side(self, executed: ExecutedBlock) -> None:
        """Keep a valid block that is not (yet) on the heaviest chain."""
        with self._commit() as batch:
            _put_block(batch, executed, self._codec)
            _put(batch, b"W" + executed.hash, encode_writes(executed.writes))

    def adopt(self, executed: ExecutedBlock) -> Reorganisation:
        """Make a valid block the head, reorganising where its parent is not the head; one synced batch."""
        view = self._latest
        path = view.path_to_canonical(executed.block.header.parent_hash)
        state = _PendingState(view)
        abandoned: list[bytes] = []
        with self._commit() as batch:
            for block_hash, header in view.canonical_down_to(path[-1]):
                _abandon(batch, view, block_hash, header, state)
                abandoned.append(block_hash)
            for block_hash in reversed(path[:-1]):
                _readopt(batch, view, block_hash, state)
            _put_block(batch, executed, self._codec)
            _index(batch, executed.hash, executed.block.header.number, executed.transaction_hashes)
            _put(batch, b"U" + executed.hash, state.apply(executed.writes))
            for key, value in state.changes.items():
                _put(batch, b"S" + key, value)
            self._prune(batch, executed.block.header.number)
            batch.put(_HEAD, executed.hash)
        return Reorganisation(tuple(abandoned), (*reversed(path[:-1]), executed.hash))

    def write_finality(self, finality: Finality) -> None:
        """Write what votes have settled; one synced batch."""
        places = (finality.final, *finality.justified)
        with self._commit() as batch:
            batch.put(_FINALITY, b"".join(place.number.to_bytes(8, "big") + place.hash for place in places))

    def write_records(self, records: Mapping[bytes, bytes | None]) -> None:
        """Write or delete (None) records beside the chain, whose loss in a power cut harms nothing; not synced."""
        batch = self._db.write_batch()
        for key, value in records.items():
            _put(batch, key, value)
        try:
            batch.write()
        except plyvel.Error as error:
            raise StoreFault(f"writing the database failed: {error}; check free space") from error

    def load_records(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """All records whose key starts with a prefix, in the order of keys."""
        with self._db.iterator(prefix=prefix) as found:
            return list(found)

    def close(self) -> None:
        """Release the folder; snapshots taken before must not be used any more."""
        self._db.close()

    @contextmanager
    def _commit(self) -> Iterator[Any]:
        batch = self._db.write_batch(sync=True)
        yield batch
        try:
            batch.write()
        except plyvel.Error as error:
            raise StoreFault(f"writing the database failed: {error}; check free space; nothing was changed") from error
        self._latest = ChainSnapshot(self._db.snapshot(), self._codec)

    def _prune(self, batch: Any, number: int) -> None:
        """Drop undo records of blocks that are old and final: only blocks above the final one can be abandoned."""
        if self._archive:
            return
        pruned = int.from_bytes(self._latest.get(_PRUNED) or b"", "big")
        last = min(number - UNDO_BLOCKS, self._latest.finality.final.number, pruned + _PRUNED_AT_ONCE)
        for old in range(pruned + 1, last + 1):
            _put(batch, b"U" + self._latest.require(b"N" + old.to_bytes(8, "big")), None)
        if last > pruned:
            batch.put(_PRUNED, last.to_bytes(8, "big"))


class _PendingState:
    """State changes of a batch under construction, over the state as of the last commit."""

    def __init__(self, view: ChainSnapshot) -> None:
        self._view = view
        self.changes: dict[bytes, bytes | None] = {}

    def apply(self, writes: StateWrites) -> bytes:
        """Apply writes; returns the encoded writes that take them back."""
        inverse = [(key, self._current(key)) for key, _ in writes]
        self.changes.update(writes)
        return encode_writes(inverse)

    def _current(self, key: bytes) -> bytes | None:
        return self.changes[key] if key in self.changes else self._view.get(b"S" + key)


def _put_block(batch: Any, executed: ExecutedBlock, codec: BlockCodec) -> None:
    block, block_hash = executed.block, executed.hash
    _put(batch, b"H" + block_hash, block.header.encode())
    _put(batch, b"B" + block_hash, codec.encode_body(block.body))
    _put(batch, b"R" + block_hash, bytes(rlp.encode(list(executed.receipts))))
    _put(batch, b"M" + block_hash, executed.ticket + executed.total_difficulty.to_bytes(32, "big"))
    _put(batch, b"T" + block_hash, b"".join(executed.transaction_hashes))


def _index(batch: Any, block_hash: bytes, number: int, transaction_hashes: Sequence[bytes]) -> None:
    _put(batch, b"N" + number.to_bytes(8, "big"), block_hash)
    for index, transaction_hash in enumerate(transaction_hashes):
        _put(batch, b"X" + transaction_hash, block_hash + index.to_bytes(4, "big"))


def _abandon(batch: Any, view: ChainSnapshot, block_hash: bytes, header: Header, state: _PendingState) -> None:
    undo = view.get(b"U" + block_hash)
    if undo is None:
        raise StateNotKept(header.number - 1)
    _put(batch, b"W" + block_hash, state.apply(decode_writes(undo)))
    _put(batch, b"U" + block_hash, None)
    _put(batch, b"N" + header.number.to_bytes(8, "big"), None)
    for transaction_hash in view.load_transaction_hashes(block_hash):
        _put(batch, b"X" + transaction_hash, None)


def _readopt(batch: Any, view: ChainSnapshot, block_hash: bytes, state: _PendingState) -> None:
    _put(batch, b"U" + block_hash, state.apply(decode_writes(view.require(b"W" + block_hash))))
    _put(batch, b"W" + block_hash, None)
    _index(batch, block_hash, view.require_header(block_hash).number, view.load_transaction_hashes(block_hash))


def open_store(folder: Path, *, archive: bool = False, codec: BlockCodec = OWN_CODEC) -> Store:
    """Open or create the database in a folder.

    Raises:
        StoreFault: in use by another process, damaged, not writable, or of another schema.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        database = plyvel.DB(str(folder), create_if_missing=True, paranoid_checks=True)
    except plyvel.IOError as error:
        if "lock" in str(error).lower():
            raise StoreFault(
                f"{folder} is in use by another node; stop that one or choose another --data-dir"
            ) from error
        raise StoreFault(f"cannot open the database in {folder}: {error}; check permissions and free space") from error
    except OSError as error:
        raise StoreFault(f"cannot create {folder}: {error.strerror}; choose another --data-dir") from error
    except plyvel.Error as error:
        raise StoreFault(
            f"the database in {folder} is damaged: {error}; restore a copy, or delete the folder to sync anew"
        ) from error
    schema = database.get(_SCHEMA)
    if schema is not None and int.from_bytes(schema, "big") != SCHEMA:
        database.close()
        found = int.from_bytes(schema, "big")
        raise StoreFault(f"{folder} has schema {found}, this program reads {SCHEMA}; use the version that wrote it")
    return Store(database, archive=archive, codec=codec)


def _put(batch: Any, key: bytes, value: bytes | None) -> None:
    if value is None:
        batch.delete(key)
    else:
        batch.put(key, value)
