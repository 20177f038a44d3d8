"""Blocks as answers need them: decoded transactions with senders, receipts with what their encoding leaves out."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import rlp

from chain.blocks import Body, Header
from chain.engine import Transaction, decode_transactions
from chain.errors import NodeFault
from chain.hashing import keccak256
from hyperdust.node.rpc.errors import InvalidParams, ServerError
from hyperdust.node.rpc.parameters import BlockReference
from hyperdust.node.rpc.rules import ChainRules
from hyperdust.node.store import ChainSnapshot

V = TypeVar("V")
_CACHED_BLOCKS: Final = 128


@dataclass(frozen=True, slots=True)
class Log:
    """One event."""

    address: bytes
    topics: tuple[bytes, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class DecodedReceipt:
    """What the consensus encoding of a receipt says."""

    type: int
    status: int | None
    """None for receipts that carry a state root (before Byzantium)."""
    root: bytes | None
    cumulative_gas_used: int
    bloom: bytes
    logs: tuple[Log, ...]


@dataclass(frozen=True, slots=True)
class FullBlock:
    """A block and its body."""

    hash: bytes
    header: Header
    body: Body


class _Recent(Generic[V]):
    """The values asked for last, by block hash; values of a hash never change."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[bytes, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes, load: Callable[[], V]) -> V:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = load()
        with self._lock:
            self._values[key] = value
            if len(self._values) > self._size:
                self._values.popitem(last=False)
        return value


class BlockReader:
    """Blocks, transactions and receipts by hash, the last ones kept decoded. Safe to use from any thread."""

    def __init__(self) -> None:
        self._blocks: _Recent[FullBlock] = _Recent(_CACHED_BLOCKS)
        self._transactions: _Recent[Sequence[Transaction]] = _Recent(_CACHED_BLOCKS)
        self._receipts: _Recent[tuple[DecodedReceipt, ...]] = _Recent(_CACHED_BLOCKS)

    def block(self, snapshot: ChainSnapshot, block_hash: bytes) -> FullBlock | None:
        """A known block, canonical or not."""
        header = snapshot.load_header(block_hash)
        if header is None:
            return None
        return self._blocks.get(block_hash, lambda: FullBlock(block_hash, header, _body(snapshot, block_hash)))

    def transactions(self, block: FullBlock) -> Sequence[Transaction]:
        """A block's transactions with their senders."""
        return self._transactions.get(block.hash, lambda: decode_transactions(block.body.transactions))

    def receipts(self, snapshot: ChainSnapshot, block_hash: bytes) -> tuple[DecodedReceipt, ...]:
        """A block's receipts."""
        return self._receipts.get(
            block_hash, lambda: tuple(decode_receipt(raw) for raw in snapshot.load_receipts(block_hash))
        )


def _body(snapshot: ChainSnapshot, block_hash: bytes) -> Body:
    body = snapshot.load_body(block_hash)
    if body is None:
        raise NodeFault(f"the body of block 0x{block_hash.hex()} is not in the database")
    return body


def decode_receipt(raw: bytes) -> DecodedReceipt:
    """A receipt from its EIP-2718 encoding, which our own engine wrote."""
    kind, payload = (raw[0], raw[1:]) if raw[0] < 0x80 else (0, raw)
    outcome, gas, bloom, logs = rlp.decode(payload)
    return DecodedReceipt(
        type=kind,
        status=int.from_bytes(outcome, "big") if len(outcome) != 32 else None,
        root=outcome if len(outcome) == 32 else None,
        cumulative_gas_used=int.from_bytes(gas, "big"),
        bloom=bloom,
        logs=tuple(Log(address, tuple(topics), data) for address, topics, data in logs),
    )


def compute_contract_address(transaction: Transaction) -> bytes | None:
    """Where a creation puts its contract; None for a call."""
    if transaction.to is not None:
        return None
    nonce = transaction.nonce.to_bytes((transaction.nonce.bit_length() + 7) // 8, "big")
    return keccak256(rlp.encode([transaction.sender, nonce]))[12:]


def compute_effective_gas_price(transaction: Transaction, base_fee: int) -> int:
    """Wei a gas that a transaction pays in a block. Source: EIP-1559."""
    tip = min(transaction.max_priority_fee_per_gas, transaction.max_fee_per_gas - base_fee)
    return base_fee + tip


def resolve_hash(snapshot: ChainSnapshot, reference: BlockReference, rules: ChainRules) -> bytes | None:
    """Hash of the block that a reference means; None where there is none.

    `pending` is the head here: callers that can show a pending block do so before.

    Raises:
        InvalidParams: a block hash that has to be canonical and is not.
    """
    if reference.hash is not None:
        if snapshot.load_header(reference.hash) is None:
            return None
        if reference.require_canonical and not snapshot.is_canonical(reference.hash):
            raise InvalidParams("hash is not currently canonical")
        return reference.hash
    if reference.number is not None:
        return snapshot.canonical_hash(reference.number)
    if reference.tag in {"latest", "pending"}:
        return snapshot.head.hash
    if reference.tag == "earliest":
        return snapshot.genesis_hash
    return rules.safe_hash(snapshot) if reference.tag == "safe" else rules.final_hash(snapshot)


def require_hash(snapshot: ChainSnapshot, reference: BlockReference, rules: ChainRules) -> bytes:
    """As `resolve_hash`, where the block has to exist.

    Raises:
        ServerError: with geth's words.
    """
    block_hash = resolve_hash(snapshot, reference, rules)
    if block_hash is None:
        raise ServerError("header for hash not found" if reference.hash is not None else "header not found")
    return block_hash


def resolve_number(snapshot: ChainSnapshot, reference: BlockReference, rules: ChainRules) -> int:
    """Height that a number or tag means; it may lie above the head."""
    if reference.number is not None:
        return reference.number
    return snapshot.require_header(require_hash(snapshot, reference, rules)).number
