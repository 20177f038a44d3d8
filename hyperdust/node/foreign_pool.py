"""Pending blocks and the transaction pool of an imported Ethereum chain: what JSON-RPC shows; nothing is ever mined."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

import rlp
from rlp.exceptions import RLPException

from chain import transactions as refusals
from chain.blocks import EMPTY_TRIE_ROOT, ZERO_HASH, Withdrawal
from chain.engine import Executed, Transaction, decode_transactions, execute
from chain.params import ChainParams
from hyperdust.node.builder import Template
from hyperdust.node.foreign import hash_requests, requests_of
from hyperdust.node.foreign_blocks import PRAGUE_FIELDS, SHANGHAI_FIELDS
from hyperdust.node.foreign_rules import ForeignRules
from hyperdust.node.importer import Listener
from hyperdust.node.mempool import Mempool
from hyperdust.node.store import Head, Store

_BLOB: Final = 3
_GAS_CEILING: Final = 60_000_000  # what geth's miner aims at
_GAS_STEP: Final = 1024  # Yellow Paper: a block's limit moves by less than a 1024th of its parent's
_SIDECAR_ITEMS: Final = (4, 5)  # EIP-4844: [transaction, blobs, commitments, proofs]; EIP-7594: a version before blobs


class SidecarInvalid(refusals.TransactionInvalid):
    """A blob transaction whose sidecar is missing or is not the one that it names."""


class StillChain:
    """Where parts subscribe to new heads; an imported chain has none."""

    def subscribe(self, listener: Listener) -> None:
        """Nothing will be said."""


class ForeignPool(Mempool):
    """The pool, for a chain that takes blobs. Their KZG proofs are not verified: nothing here is ever gossiped."""

    def __init__(self, params: ChainParams, store: Store) -> None:
        super().__init__(params, store)
        self._chain_id = params.chain_id

    def add(self, raw: bytes) -> Transaction:
        """Take a stranger's transaction; blobs come with their sidecar.

        Raises:
            TransactionInvalid: malformed, badly signed, or refused by a rule of chain or pool; the text is geth's.
        """
        if raw[:1] != bytes([_BLOB]):
            return super().add(raw)
        plain, commitments = _open_sidecar(raw)
        (transaction,) = decode_transactions([plain])
        if transaction.chain_id != self._chain_id:
            raise refusals.WrongChainId(transaction.chain_id or 0, self._chain_id)
        if tuple(b"\1" + sha256(one).digest()[1:] for one in commitments) != transaction.blob_hashes:
            raise SidecarInvalid("blob hashes are not those of the sidecar's commitments")
        with self._lock:
            self._insert(transaction)
        for listener in self._listeners:
            listener(transaction)
        return transaction


def _open_sidecar(raw: bytes) -> tuple[bytes, list[bytes]]:
    """(The transaction alone, its commitments)."""
    try:
        items = rlp.decode(raw[1:])
    except (RLPException, RecursionError) as error:
        raise refusals.MalformedTransaction("transaction", f"not RLP: {error}") from error
    if not isinstance(items, list) or len(items) not in _SIDECAR_ITEMS or not isinstance(items[0], list):
        raise SidecarInvalid("missing sidecar in blob transaction")
    commitments = items[-2]
    if not isinstance(commitments, list) or not all(isinstance(one, bytes) for one in commitments):
        raise SidecarInvalid("commitments are not a list of bytes")
    return bytes([_BLOB]) + bytes(rlp.encode(items[0])), commitments


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a consensus client says about the block that it wants (engine API, PayloadAttributesV3)."""

    timestamp: int
    coinbase: bytes = bytes(20)
    prev_randao: bytes = ZERO_HASH
    beacon_root: bytes = ZERO_HASH
    withdrawals: tuple[Withdrawal, ...] = ()
    extra_data: bytes = b""


class ForeignBuilder:
    """Blocks on the head as they would be. Safe to use from any thread."""

    def __init__(self, rules: ForeignRules, store: Store, pool: Mempool) -> None:
        self._rules = rules
        self._store = store
        self._pool = pool
        self._lock = threading.Lock()
        self._pending: tuple[int, Template] | None = None

    def pending(self) -> Template:
        """The next block, a slot after the head, of the pool's transactions."""
        with self._lock:
            version = self._pool.version
            if self._pending is None or self._pending[0] != version:
                head = self._store.latest.head
                attributes = Attributes(head.header.timestamp + self._rules.spacing_s)
                self._pending = (version, self.build(head, attributes, None))
            return self._pending[1]

    def build(self, parent: Head, attributes: Attributes, transactions: Sequence[Transaction] | None) -> Template:
        """A block of these transactions, all of them; or, where None, of what the pool has and fits.

        Raises:
            TransactionInvalid: one of these cannot be applied.
        """
        view = self._store.latest
        bare = self._rules.header_after(parent.header, parent.number + 1, attributes.timestamp)
        bare = replace(
            bare,
            coinbase=attributes.coinbase,
            mix_hash=attributes.prev_randao,
            parent_beacon_block_root=attributes.beacon_root,
            extra_data=attributes.extra_data,
            base_fee_per_gas=self._rules.base_fee_after(parent.header),
            gas_limit=_next_gas_limit(parent.header.gas_limit),
        )
        chosen = list(self._pool.best(bare.base_fee_per_gas) if transactions is None else transactions)
        credited = [(one.index, one.validator_index, one.address, one.amount) for one in attributes.withdrawals]
        executed = execute(
            self._rules.environment_of(bare),
            chosen,
            view.state_at(parent.hash).read_many,
            withdrawals=credited + self._rules.reward_credits(bare, ()),
            on_invalid="skip" if transactions is None else "reject",
        )
        requests = requests_of(executed, self._rules.deposit_contract)
        header = replace(
            bare,
            state_root=executed.state_root,
            transactions_root=executed.transactions_root,
            receipts_root=executed.receipts_root,
            logs_bloom=executed.logs_bloom,
            gas_used=executed.gas_used,
            blob_gas_used=executed.blob_gas_used,
            withdrawals_root=(executed.withdrawals_root or EMPTY_TRIE_ROOT)
            if bare.field_count >= SHANGHAI_FIELDS
            else ZERO_HASH,
            requests_hash=hash_requests(requests) if bare.field_count >= PRAGUE_FIELDS else ZERO_HASH,
        )
        included = tuple(chosen[index] for index in executed.included)
        raws = tuple(transaction.raw for transaction in included)
        executed_all: Executed = replace(executed, requests=tuple(requests))
        return Template(0, header, raws, included, executed_all, 0.0)


def _next_gas_limit(parent: int) -> int:
    step = parent // _GAS_STEP - 1
    if parent < _GAS_CEILING:
        return min(parent + step, _GAS_CEILING)
    return max(parent - step, _GAS_CEILING)
