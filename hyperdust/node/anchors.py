"""Anchors on Bitcoin as a node sees them: which of its blocks they name, and how deep they lie.

An anchor counts once its commitment is that of a block of our own chain. Known are those in evidence that a block
carries (records `Ka`, L2 height, txid) and in evidence that still waits for its depth. What was said to be finalized is
kept (record `Kf`): it never goes back.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from bridge.anchors import AnchoredFacts, find_anchor
from bridge.deposits import Evidence
from bridge.errors import HeaderUnknown
from bridge.peg import compute_peg_out_root
from bridge.peg_errors import AnchorMalformed
from bridge.peg_state import NO_ANCHOR, PegState
from bridge.transactions import Transaction
from bridge.view import BitcoinView
from chain.errors import Invalid
from chain.hashing import H
from chain.params import ChainParams
from consensus.evidence import decode_evidence_item
from consensus.finality import Checkpoint
from consensus.peg import load_peg
from consensus.peg_terms import rules_of
from hyperdust.node.evidence import EvidencePool
from hyperdust.node.settled import FollowedSnapshot, SettledBlocks
from hyperdust.node.store import ChainSnapshot, StateNotKept, Store

log = structlog.get_logger()

SAFE_CONFIRMATIONS: Final = 1
_RECORD: Final = b"Ka"
_SAID: Final = b"Kf"
_MATCHED: Final = 1_024


@dataclass(frozen=True, slots=True)
class SeenAnchor:
    """An anchor that names a block of our chain."""

    place: Checkpoint
    """The block."""
    txid: bytes
    block_hash: bytes
    """Of the Bitcoin block."""
    confirmations: int
    """Of that block; 0: it is not on the best chain."""
    carrier: bytes | None
    """Hash of the L2 block whose evidence shows it; None while none does."""


def compute_facts(snapshot: ChainSnapshot, params: ChainParams, block_hash: bytes, previous: bytes) -> AnchoredFacts:
    """What an anchor of a canonical block commits to; `previous` is the id of the anchor before.

    Raises:
        UnknownBlock, StateNotKept: it cannot be told any more.
    """
    header = snapshot.require_header(block_hash)
    state = load_peg(snapshot.state_at(block_hash).read_many)
    committee = FollowedSnapshot(snapshot, params.finality).committee_at(header.number)
    weights = b"".join(voter + weight.to_bytes(8, "little") for voter, weight in sorted(committee.weights.items()))
    return AnchoredFacts(
        block_hash,
        header.state_root,
        compute_peg_out_root(state),
        H("work-root", weights),
        state.vault_sats,
        previous,
    )


class AnchorIndex:
    """As `hyperdust.node.settled.Anchors`. Safe to use from any thread."""

    def __init__(self, params: ChainParams, store: Store, bitcoin: BitcoinView, evidence: EvidencePool) -> None:
        self._params = params
        self._rules = rules_of(params)
        self._store = store
        self._bitcoin = bitcoin
        self._evidence = evidence
        self._noted = dict(store.load_records(_RECORD))  # sorted by key, so by height
        self._matched: dict[tuple[bytes, bytes], Checkpoint] = {}  # by txid and hash of the L2 block; bounded below
        self._lock = threading.Lock()
        self._said = next((_decode_place(value) for _, value in store.load_records(_SAID)), None)

    def note(self, snapshot: ChainSnapshot, adopted: Sequence[bytes]) -> None:
        """Write down the anchors in the evidence of new blocks."""
        records: dict[bytes, bytes | None] = {}
        for block_hash in adopted:
            body = snapshot.load_body(block_hash)
            for raw in body.evidence if body else ():
                item = decode_evidence_item(raw, self._rules)
                if not isinstance(item, Evidence):
                    continue
                place = self._match(snapshot, item)
                if place is not None:
                    key = _RECORD + place.number.to_bytes(8, "big") + item.transaction.txid
                    records[key] = item.block_hash + place.hash + block_hash
        if records:
            self._store.write_records(records)
            self._noted = dict(self._store.load_records(_RECORD))

    def seen(self, snapshot: ChainSnapshot) -> list[SeenAnchor]:
        """All that name blocks of this chain, by L2 height."""
        found = {(one.place.number, one.txid): one for one in (*self._waiting(snapshot), *self._carried(snapshot))}
        return [found[key] for key in sorted(found)]

    def _waiting(self, snapshot: ChainSnapshot) -> Iterator[SeenAnchor]:
        for pooled in self._evidence.items:
            if isinstance(pooled.item, Evidence) and (place := self._match(snapshot, pooled.item)) is not None:
                yield self._see(place, pooled.txid, pooled.item.block_hash, None)

    def _carried(self, snapshot: ChainSnapshot) -> Iterator[SeenAnchor]:
        """Newest first."""
        for key, value in reversed(self._noted.items()):
            place = Checkpoint(int.from_bytes(key[len(_RECORD) : len(_RECORD) + 8], "big"), value[32:64])
            carrier = value[64:96]
            if snapshot.is_canonical(carrier) and snapshot.canonical_hash(place.number) == place.hash:
                yield self._see(place, key[len(_RECORD) + 8 :], value[:32], carrier)

    def safe(self, snapshot: ChainSnapshot) -> Checkpoint:
        """The last block anchored with one confirmation; without any, the last justified checkpoint.

        Never below what is finalized.
        """
        found = self._deepest(snapshot, SAFE_CONFIRMATIONS) or SettledBlocks(snapshot).safe()
        return max(found, self.finalized(snapshot), key=_height)

    def finalized(self, snapshot: ChainSnapshot) -> Checkpoint:
        """The last block anchored deeply; without any, the last final checkpoint. Never below what it was before.

        So votes count until anchors pass them: the first anchor names an older block, and a reorganisation of Bitcoin
        may take the last one away. Only a block that is no longer canonical is forgotten.
        """
        found = self._deepest(snapshot, self._params.finality.anchor_depth_blocks)
        found = found or SettledBlocks(snapshot).finalized()
        with self._lock:
            said = self._said
            if said is not None and said.number >= found.number and snapshot.canonical_hash(said.number) == said.hash:
                return said
            if said is None or found.number > said.number or not self._store.latest.is_canonical(said.hash):
                self._store.write_records({_SAID: found.number.to_bytes(8, "big") + found.hash})
                self._said = found
        return found

    def _deepest(self, snapshot: ChainSnapshot, confirmations: int) -> Checkpoint | None:
        deep = [one.place for one in self._waiting(snapshot) if one.confirmations >= confirmations]
        newest = next((one.place for one in self._carried(snapshot) if one.confirmations >= confirmations), None)
        return max((*deep, *([newest] if newest else [])), key=_height, default=None)

    def _see(self, place: Checkpoint, txid: bytes, block_hash: bytes, carrier: bytes | None) -> SeenAnchor:
        try:
            confirmations = self._bitcoin.confirmations(block_hash)
        except HeaderUnknown:
            confirmations = 0
        return SeenAnchor(place, txid, block_hash, confirmations, carrier)

    def _match(self, snapshot: ChainSnapshot, item: Evidence) -> Checkpoint | None:
        """The canonical block that the anchor in a vault transaction commits to."""
        try:
            anchor = find_anchor(item.transaction)
        except AnchorMalformed:
            return None
        if anchor is None or (block_hash := snapshot.canonical_hash(anchor.height)) is None:
            return None
        known = (item.transaction.txid, block_hash)
        if known in self._matched:
            return self._matched[known]
        state = load_peg(snapshot.state_at(snapshot.head.hash).read_many)
        try:
            for previous in self._anchors_before(state, item.transaction):
                facts = compute_facts(snapshot, self._params, block_hash, previous)
                if facts.commitment == anchor.commitment:
                    place = self._matched[known] = Checkpoint(anchor.height, block_hash)
                    if len(self._matched) > _MATCHED:
                        del self._matched[next(iter(self._matched))]
                    return place
        except StateNotKept:
            return None
        log.warning("an anchor commits to no block of this chain", height=anchor.height)
        return None

    def _anchors_before(self, state: PegState, transaction: Transaction) -> Iterator[bytes]:
        """Id of the anchor before: that of the vault output spent, or of evidence that waits."""
        parent = transaction.inputs[0].txid
        coins = [*([state.base] if state.base else []), *(record.coin for record in state.records)]
        known = {coin.txid: coin.anchor_id for coin in coins}
        waiting = {one.txid: one.item for one in self._evidence.items if isinstance(one.item, Evidence)}
        while parent not in known and parent in waiting:
            try:
                anchor = find_anchor(waiting[parent].transaction)
            except Invalid:
                return
            if anchor is not None:
                yield anchor.id
                return
            parent = waiting[parent].transaction.inputs[0].txid
        yield known.get(parent, NO_ANCHOR)


def _height(place: Checkpoint) -> int:
    return place.number


def _decode_place(record: bytes) -> Checkpoint:
    return Checkpoint(int.from_bytes(record[:8], "big"), record[8:40])
