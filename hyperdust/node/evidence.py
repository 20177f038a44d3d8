"""Evidence that waits for a block: vault transactions that anyone has shown, whose deposits they swept, announcements.

Node data, kept over restarts (records `Ke` and an id). Taken in is what Bitcoin's best chain holds already, however
shallow, and what continues the list of vault transactions; a block carries it once the origin lies above it.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from bridge.custody import Announcement, apply_announcement
from bridge.deposits import Claim, Evidence, Outpoint, ProvenTransaction, check_evidence, check_on_branch
from bridge.errors import HeaderUnknown
from bridge.peg_errors import NoVaultTransaction, SweepNotOnBranch, UnknownSweep
from bridge.peg_repair import follow_origin
from bridge.peg_state import PegState, SweepStatus
from bridge.vault_reading import read_vault_transaction
from bridge.view import BitcoinView
from chain.blocks import MAX_EVIDENCE_BYTES, MAX_EVIDENCE_ITEMS
from chain.errors import Invalid, NotYet
from chain.hashing import keccak256
from chain.params import ChainParams
from consensus.evidence import Item, apply_evidence, decode_evidence_item
from consensus.peg import PegParent, load_peg, take_in
from consensus.peg_terms import rules_of
from hyperdust.node.store import Store, StoreFault

log = structlog.get_logger()

MAX_ITEMS: Final = 256
MAX_BYTES: Final = 8 * 1024 * 1024
_RECORD: Final = b"Ke"
_REPAIR_STARTS: Final = 16


class EvidencePoolFull(NotYet):
    """As much evidence waits as this node keeps."""


@dataclass(frozen=True, slots=True)
class Pooled:
    """One item of evidence."""

    id: bytes
    """keccak256 of the encoding."""
    raw: bytes
    item: Item
    txid: bytes
    """Of the vault transaction; empty for every other item."""


class EvidencePool:
    """Bounded; safe to use from any thread."""

    def __init__(self, params: ChainParams, store: Store, bitcoin: BitcoinView) -> None:
        """Read what the database holds.

        Raises:
            StoreFault: it holds something else.
        """
        self._rules = rules_of(params)
        self._store = store
        self._bitcoin = bitcoin
        self._lock = threading.Lock()
        self._items: dict[bytes, Pooled] = {}
        self._version = 0
        self._chosen: tuple[tuple[bytes, bytes, int], tuple[bytes, ...]] | None = None
        for _, raw in store.load_records(_RECORD):
            try:
                item = decode_evidence_item(raw, self._rules)
            except Invalid as error:
                raise StoreFault(
                    f"the evidence in the database is damaged ({error}); delete the data folder"
                ) from error
            self._keep(raw, item)

    @property
    def items(self) -> tuple[Pooled, ...]:
        """All that waits, and what was applied of late, in the order of arrival."""
        with self._lock:
            return tuple(self._items.values())

    def add(self, raw: bytes) -> bytes:
        """Take one item in, in the encoding of block bodies (`consensus.evidence`); its id.

        Raises:
            Invalid, NotYet: by the rule that it breaks as this node sees Bitcoin and the head's peg.
            EvidencePoolFull: later again.
        """
        identifier = keccak256(raw)
        with self._lock:
            if identifier in self._items:
                return identifier
        item = decode_evidence_item(raw, self._rules)
        view = self._store.latest
        state = load_peg(view.state_at(view.head.hash).read_many)
        self._check(item, state)
        with self._lock:
            self._make_room(len(raw), state)
            self._keep(raw, item)
            self._store.write_records({_RECORD + identifier: raw})
        log.info("evidence", id="0x" + identifier.hex(), size=len(raw), kind=type(item).__name__)
        return identifier

    def _keep(self, raw: bytes, item: Item) -> None:
        identifier = keccak256(raw)
        txid = item.transaction.txid if isinstance(item, Evidence) else b""
        self._items[identifier] = Pooled(identifier, raw, item, txid)
        self._version += 1

    def choose(self, parent: PegParent, origin: bytes) -> tuple[bytes, ...]:
        """As `EvidenceSource`: announcements, vault transactions in order, claims; a frozen peg's repair as a whole."""
        key = (parent.header.hash, origin, self._version)
        known = self._chosen
        if known is None or known[0] != key:
            known = self._chosen = (key, self._choose(parent, origin))
        return known[1]

    def _choose(self, parent: PegParent, origin: bytes) -> tuple[bytes, ...]:
        waiting = [one for one in self.items if self._lies_below(one.item, origin)]
        if not waiting:
            return ()
        try:
            start = follow_origin(take_in(parent, self._rules), self._bitcoin, origin, self._rules)
        except HeaderUnknown:
            return ()
        transactions = order_chain([one for one in waiting if isinstance(one.item, Evidence)])
        claims = [one for one in waiting if isinstance(one.item, Claim)]
        announced = order_announcements(waiting)  # before what the council spends, and again after what hands over
        state, chosen = self._extend(start, [*announced, *transactions, *claims, *announced], origin)
        if state.frozen is not None:
            chosen += self._find_repair(state, [one for one in transactions if one not in chosen], origin)
        return tuple(one.raw for one in chosen)

    def _extend(self, state: PegState, ordered: Iterable[Pooled], origin: bytes) -> tuple[PegState, list[Pooled]]:
        chosen: list[Pooled] = []
        left = MAX_EVIDENCE_BYTES
        for one in ordered:
            if len(one.raw) > left or len(chosen) == MAX_EVIDENCE_ITEMS:
                continue
            try:
                state = apply_evidence(state, (one.raw,), self._bitcoin, origin, self._rules)
            except Invalid:
                continue
            chosen.append(one)
            left -= len(one.raw)
        return state, chosen

    def _find_repair(self, state: PegState, ordered: list[Pooled], origin: bytes) -> list[Pooled]:
        """Vault transactions that together thaw a frozen peg: the longest row of those that spend each other."""
        followers = {_parent(one): one for one in ordered}
        coins = {record.coin.txid for record in state.records} | ({state.base.txid} if state.base else set())
        starts = [
            one for one in ordered if _parent(one) in coins or (isinstance(one.item, Evidence) and one.item.is_first)
        ]
        for start in starts[:_REPAIR_STARTS]:
            row = [start]
            while row[-1].txid in followers and len(row) < MAX_EVIDENCE_ITEMS:
                row.append(followers[row[-1].txid])
            while row:
                size = sum(len(one.raw) for one in row)
                if size <= MAX_EVIDENCE_BYTES and self._is_valid(state, row, origin):
                    return row
                row.pop()
        return []

    def _is_valid(self, state: PegState, row: list[Pooled], origin: bytes) -> bool:
        try:
            apply_evidence(state, [one.raw for one in row], self._bitcoin, origin, self._rules)
        except Invalid:
            return False
        return True

    def _lies_below(self, item: Item, origin: bytes) -> bool:
        if not isinstance(item, Evidence):
            return True
        try:
            check_on_branch(item.block_hash, self._bitcoin, origin)
        except SweepNotOnBranch:
            return False
        return True

    def _check(self, item: Item, state: PegState) -> None:
        if isinstance(item, Claim):
            if item.outpoint not in _unclaimed(state):
                raise UnknownSweep("outpoint", str(item.outpoint), "one that a vault transaction took in unclaimed")
            return
        if isinstance(item, Announcement):
            apply_announcement(state, item, self._origin_height(), self._rules)
            return
        tip = self._bitcoin.hash_at(self._bitcoin.height)
        self._check_continues(state, check_evidence(item, self._bitcoin, tip, self._rules))

    def _origin_height(self) -> int:
        """Of the origin that the next block can have."""
        return max(0, self._bitcoin.height - self._rules.origin_depth)

    def _check_continues(self, state: PegState, proven: ProvenTransaction) -> None:
        """Only what the signers made gets in: it spends a vault output that is known, or could be the first."""
        txids = {record.coin.txid for record in state.records} | {one.txid for one in self.items}
        if state.base is not None:
            txids.add(state.base.txid)
        spent = {Outpoint(place.txid, place.index) for place in proven.transaction.inputs}
        if proven.txid in txids or any(Outpoint(txid, 0) in spent for txid in txids):
            return
        if state.vault is not None:
            raise NoVaultTransaction("inputs", str(min(spent)), "a vault output that is known")
        read_vault_transaction(state, proven, self._rules)

    def _make_room(self, size: int, state: PegState) -> None:
        """Drop what was applied longest ago and what Bitcoin dropped, then refuse."""
        applied = {(record.coin.txid, record.block_hash) for record in state.records}
        waiting = _unclaimed(state)
        held = sum(len(one.raw) for one in self._items.values())
        for one in list(self._items.values()):
            if len(self._items) < MAX_ITEMS and held + size <= MAX_BYTES:
                return
            item = one.item
            if isinstance(item, Evidence):
                is_done = (one.txid, item.block_hash) in applied or not self._may_count(item, state)
            elif isinstance(item, Claim):
                is_done = item.outpoint not in waiting
            else:
                is_done = item.epoch < len(state.custodies) or self._origin_height() > item.valid_until
            if is_done:
                del self._items[one.id]
                held -= len(one.raw)
                self._store.write_records({_RECORD + one.id: None})
        if len(self._items) >= MAX_ITEMS or held + size > MAX_BYTES:
            raise EvidencePoolFull(f"{len(self._items)} items, {held} bytes of evidence wait")

    def _may_count(self, item: Evidence, state: PegState) -> bool:
        """Whether its block is on Bitcoin's best chain, and not so old that the peg has forgotten what was in it.

        Should a lost branch win again, signers hand theirs in again.
        """
        try:
            height = check_on_branch(item.block_hash, self._bitcoin, self._bitcoin.hash_at(self._bitcoin.height))
        except SweepNotOnBranch:
            return False
        return state.base is None or height > state.base.height


def order_chain(pooled: Iterable[Pooled]) -> list[Pooled]:
    """Vault transactions so that each follows the one whose output it spends."""
    left, placed = sorted(pooled, key=lambda one: one.id), list[Pooled]()
    while left:
        waiting = {one.txid for one in left}
        ready = [one for one in left if _parent(one) not in waiting]
        placed += ready
        left = [one for one in left if one not in ready]
    return placed


def order_announcements(pooled: Iterable[Pooled]) -> list[Pooled]:
    """By epoch: each takes the next free one."""
    found = [(one.item.epoch, one.id, one) for one in pooled if isinstance(one.item, Announcement)]
    return [one for _, _, one in sorted(found, key=lambda entry: entry[:2])]


def _parent(one: Pooled) -> bytes:
    return one.item.transaction.inputs[0].txid if isinstance(one.item, Evidence) else b""


def _unclaimed(state: PegState) -> set[Outpoint]:
    sweeps = (sweep for record in state.records for sweep in record.sweeps)
    return {one.outpoint for one in sweeps if one.status is SweepStatus.UNCLAIMED}
