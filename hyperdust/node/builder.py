"""Blocks in the making: which transactions go in, what the header says, when the search for a ticket may start.

The rules are those of `consensus`: the builder only fills in what `consensus.validation` will compare.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import structlog

from bridge.view import BitcoinView
from chain.blocks import (
    EMPTY_OMMERS_HASH,
    EMPTY_TRIE_ROOT,
    MAX_BLOCK_BYTES,
    MAX_CERTIFICATE_BYTES,
    ZERO_HASH,
    Block,
    Body,
    Header,
    certificate_commitment,
)
from chain.engine import Executed, ReadMany, Transaction, execute
from chain.errors import NodeFault, NotYet
from chain.params import ChainParams
from chain.transactions import BlockGasLimitReached
from consensus.difficulty import compute_difficulty
from consensus.headers import compute_base_fee, compute_beacon
from consensus.origin import check_origin, choose_origin
from consensus.peg import PegParent, PegTransition, load_parent
from consensus.rewards import opening_call
from consensus.validation import environment_of, plan_peg
from hyperdust.node.mempool import Mempool
from hyperdust.node.store import Store
from precompiles.registry import precompiles_for

log = structlog.get_logger()


class EvidenceSource(Protocol):
    """What knows of vault transactions (`hyperdust.node.evidence`)."""

    def choose(self, parent: PegParent, origin: bytes) -> tuple[bytes, ...]:
        """Evidence that a block on `parent` with this origin can carry; all of it is valid there."""


_BODY_BYTES: Final = (
    MAX_BLOCK_BYTES - MAX_CERTIFICATE_BYTES - 64 * 1024
)  # what transactions and evidence may take of a block
_GAS_CANDIDATES: Final = 4  # limits are promises, not use: offer the engine up to four blocks' worth
_SEARCH_WEIGHT: Final = 4  # the newest search counts for a quarter of the estimate


@dataclass(frozen=True, slots=True)
class Template:
    """A block that lacks only its ticket."""

    id: int
    """Counts the templates of this process."""
    header: Header
    """`extra_data` and `nonce` are zero."""
    transactions: tuple[bytes, ...]
    """Raw, in order."""
    included: tuple[Transaction, ...]
    """The same, decoded."""
    executed: Executed
    """Receipts and state writes, as they will be."""
    opens_at: float
    """Unix seconds at which the search should start."""
    peg: PegTransition = field(default_factory=PegTransition)
    """Credits, and what the opening does to the peg."""
    evidence: tuple[bytes, ...] = ()
    """Why."""

    @property
    def seal_hash(self) -> bytes:
        """What the coinbase signs and key_A binds."""
        return self.header.seal_hash

    @property
    def parent_hash(self) -> bytes:
        """The block that it follows."""
        return self.header.parent_hash


class Builder:
    """Makes templates on the head. Safe to use from any thread; keeps nothing but a counter and the pace."""

    def __init__(
        self,
        params: ChainParams,
        store: Store,
        mempool: Mempool,
        block_time_s: int | None = None,
        clock: Callable[[], float] = time.time,
        bitcoin: BitcoinView | None = None,
        evidence: EvidenceSource | None = None,
    ) -> None:
        self._params = params
        self._store = store
        self._mempool = mempool
        self._block_time_s = block_time_s
        self._clock = clock
        self._bitcoin = bitcoin
        self._evidence = evidence
        self._lock = threading.Lock()
        self._count = 0
        self._search_s = 0.0
        self._pending: tuple[tuple[bytes, int], Template] | None = None

    def opens_at(self, parent: Header) -> float:
        """When the template after `parent` should be offered, in Unix seconds: now unless blocks are paced."""
        if self._block_time_s is None or parent.number == 0:
            return self._clock()
        return parent.timestamp + self._block_time_s - self._search_s

    def build(self, coinbase: bytes, timestamp: int | None = None) -> Template:
        """Execute the pool's best transactions on the head.

        Raises:
            NodeFault: the state cannot be read, or a system call failed.
        """
        view = self._store.latest
        head = view.head
        parent = head.header
        base_fee = compute_base_fee(parent)
        bare = Header(
            parent_hash=head.hash,
            ommers_hash=EMPTY_OMMERS_HASH,
            coinbase=coinbase,
            state_root=ZERO_HASH,
            transactions_root=EMPTY_TRIE_ROOT,
            receipts_root=EMPTY_TRIE_ROOT,
            logs_bloom=bytes(256),
            difficulty=compute_difficulty(self._params, parent.number, parent.timestamp),
            number=parent.number + 1,
            gas_limit=self._params.gas_limit,
            gas_used=0,
            timestamp=self._timestamp(parent) if timestamp is None else timestamp,
            extra_data=ZERO_HASH,
            mix_hash=compute_beacon(head.ticket),
            nonce=bytes(8),
            base_fee_per_gas=base_fee,
            withdrawals_root=EMPTY_TRIE_ROOT,
            blob_gas_used=0,
            excess_blob_gas=0,
            parent_beacon_block_root=choose_origin(
                parent.parent_beacon_block_root, self._params.origin_depth_blocks, self._bitcoin
            ),
            requests_hash=ZERO_HASH,
        )
        state = view.state_at(head.hash)
        evidence, transition = self._plan_peg(parent, bare.parent_beacon_block_root, state.read_many)
        candidates = self._candidates(base_fee, sum(map(len, evidence)))
        executed = execute(
            environment_of(bare, self._params),
            candidates,
            state.read_many,
            precompiles=precompiles_for(self._bitcoin, bare.parent_beacon_block_root),
            before=(opening_call(parent), *transition.opening),
            after=transition.closing,
            withdrawals=transition.credited,
            on_invalid="skip",
        )
        self._drop_skipped(candidates, executed)
        included = tuple(candidates[index] for index in executed.included)
        if executed.requests_hash is None or executed.withdrawals_root is None:
            raise NodeFault(f"fork {self._params.fork} makes no requests; the chain needs Osaka")
        header = replace(
            bare,
            state_root=executed.state_root,
            transactions_root=executed.transactions_root,
            receipts_root=executed.receipts_root,
            logs_bloom=executed.logs_bloom,
            gas_used=executed.gas_used,
            withdrawals_root=executed.withdrawals_root,
            requests_hash=executed.requests_hash,
        )
        with self._lock:
            self._count += 1
            number = self._count
        raws = tuple(transaction.raw for transaction in included)
        return Template(number, header, raws, included, executed, self.opens_at(parent), transition, evidence)

    def assemble(self, template: Template, nonce: bytes, certificate: bytes) -> Block:
        """The block that a ticket completes; `nonce` has 8 bytes."""
        commitment = certificate_commitment(certificate, template.evidence)
        header = replace(template.header, extra_data=commitment, nonce=nonce)
        credited = template.peg.withdrawals
        return Block(header, Body(template.transactions, credited, certificate, evidence=template.evidence))

    def pending(self) -> Template:
        """The next block as it would be now, without a proposer: what JSON-RPC calls "pending"."""
        key = (self._store.latest.head.hash, self._mempool.version)
        cached = self._pending
        if cached is not None and cached[0] == key:
            return cached[1]
        template = self.build(bytes(20))
        self._pending = (key, template)
        return template

    def note_search(self, seconds: float) -> None:
        """Learn how long a ticket takes from offer to block, so that the next is offered that much earlier."""
        if self._block_time_s is None:
            return
        bounded = min(max(seconds, 0.0), self._block_time_s / 2)
        with self._lock:
            self._search_s += (bounded - self._search_s) / _SEARCH_WEIGHT

    def _timestamp(self, parent: Header) -> int:
        now = int(self._clock())
        if self._block_time_s is None or parent.number == 0:
            return max(parent.timestamp + 1, now)
        # Behind the pace by more than a block (slow search, node was down): the present, no burst of old stamps.
        return max(parent.timestamp + self._block_time_s, now)

    def _plan_peg(self, parent: Header, origin: bytes, read_many: ReadMany) -> tuple[tuple[bytes, ...], PegTransition]:
        """Evidence for the next block, and what it does."""
        chosen: tuple[bytes, ...] = ()
        if self._evidence is not None and self._params.peg is not None and self._may_carry_evidence(origin):
            chosen = self._evidence.choose(load_parent(parent, environment_of(parent, self._params), read_many), origin)
        return chosen, plan_peg(parent, origin, chosen, self._bitcoin, self._params, read_many)

    def _may_carry_evidence(self, origin: bytes) -> bool:
        """Whether an origin lies deep on the best chain: one that was kept may not."""
        if origin == ZERO_HASH:
            return False
        try:
            check_origin(origin, origin, self._params.origin_depth_blocks, self._bitcoin, has_evidence=True)
        except NotYet:
            return False
        return True

    def _candidates(self, base_fee: int, evidence_bytes: int) -> list[Transaction]:
        chosen: list[Transaction] = []
        gas, size_bytes = 0, evidence_bytes
        for transaction in self._mempool.best(base_fee):
            gas += transaction.gas_limit
            size_bytes += len(transaction.raw)
            if size_bytes > _BODY_BYTES or (chosen and gas > _GAS_CANDIDATES * self._params.gas_limit):
                break
            chosen.append(transaction)
        return chosen

    def _drop_skipped(self, candidates: list[Transaction], executed: Executed) -> None:
        """Evict what execution refuses; what only did not fit, or waits for such a one, stays."""
        waiting = set()
        for index, reason in executed.skipped:
            transaction = candidates[index]
            if transaction.sender in waiting:
                continue
            waiting.add(transaction.sender)
            if not isinstance(reason, BlockGasLimitReached):
                self._mempool.evict(transaction.hash, str(reason))
