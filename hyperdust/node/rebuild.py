"""A chain rebuilt from genesis and Bitcoin alone: anchors, the payloads that they name, each block executed again.

Nothing found on Bitcoin is believed. A block counts because it is valid: it goes through the importer like any other.
An anchor says which blocks the signers held to be final; where it names another chain than the one that was rebuilt,
that is said, and the node does not start. Payloads that no anchor names yet are taken too, after the anchored ones:
whoever sent them, the worst that they can do is to be refused.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Protocol

import structlog

from bridge.anchors import NO_DATA
from bridge.batch import NO_PAYLOAD, read_batch, rebuild_block
from bridge.peg_state import NO_ANCHOR
from bridge.scripts import vault_output
from chain.blocks import Block
from chain.errors import HyperdustError, Invalid, NodeFault, NotYet
from chain.params import ChainParams
from consensus.peg import load_peg
from consensus.peg_terms import rules_of
from hyperdust.bitcoin_scan import BitcoinScan, FoundAnchor, FoundPayload
from hyperdust.bitcoind import Bitcoind
from hyperdust.node.anchors import compute_facts
from hyperdust.node.bitcoin import BitcoinChain
from hyperdust.node.importer import Imported, Outcome
from hyperdust.node.store import ChainSnapshot, StateNotKept, Store

log = structlog.get_logger()


class DataMissing(NodeFault):
    """Bitcoin does not hold the blocks from some height on; what is before it was rebuilt."""

    def __init__(self, height: int, reason: str) -> None:
        super().__init__(f"L2 blocks from {height} on are not on Bitcoin: {reason}; they have to come from elsewhere")
        self.height = height


class RebuildDiffers(NodeFault):
    """Bitcoin holds another chain than the rules allow, or than the blocks that were found."""

    def __init__(self, height: int, reason: str) -> None:
        super().__init__(f"the rebuild stops at L2 block {height}: {reason}")
        self.height = height


class BlockSink(Protocol):
    """Where blocks go."""

    def import_block(self, block: Block) -> Imported:
        """As `Importer.import_block`."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did."""

    blocks: int
    """Imported."""
    anchors: int
    """Compared."""
    anchored_height: int
    """Of the last anchor that agreed; blocks above it are on no anchor's word."""
    seconds: float


Progress = Callable[[int, int], None]
"""Is told the height reached, and the highest that Bitcoin speaks of."""


def vault_script_of(snapshot: ChainSnapshot, params: ChainParams) -> bytes | None:
    """Script of the genesis' vault; None: the network has no peg."""
    if params.peg is None:
        return None
    state = load_peg(snapshot.state_at(snapshot.genesis_hash).read_many)
    return vault_output(state.custodies[0], rules_of(params)).script


class Rebuild:
    """One run. The bitcoind's headers are in `bitcoin` already (`Follower.step`)."""

    def __init__(
        self,
        store: Store,
        importer: BlockSink,
        params: ChainParams,
        client: Bitcoind,
        bitcoin: BitcoinChain,
        start_height: int = 0,
        progress: Progress = lambda _height, _of: None,
    ) -> None:
        """`start_height`: the Bitcoin block from which on there may be data of this chain."""
        self._store = store
        self._importer = importer
        self._params = params
        self._progress = progress
        self._scan = BitcoinScan(client, bitcoin, vault_script_of(store.latest, params), start_height)
        self._imported = self._compared = self._anchored = self._target = 0
        self._previous = NO_ANCHOR
        self._start = time.monotonic()

    @property
    def done(self) -> Rebuilt:
        """What was done so far, by a run that ended early too."""
        return Rebuilt(self._imported, self._compared, self._anchored, time.monotonic() - self._start)

    def run(self) -> Rebuilt:
        """Rebuild as far as Bitcoin's data goes.

        Raises:
            DataMissing: there is more, and a part of it is not on Bitcoin; all before it was rebuilt.
            RebuildDiffers: a block breaks a rule, or an anchor commits to something else.
            NodeFault: our own trouble, or the bitcoind's.
        """
        self._scan.advance(self._say_scanned)
        anchors, payloads = self._scan.anchors, self._payloads()
        log.info("bitcoin read", height=self._scan.height, anchors=len(anchors), payloads=len(payloads))
        self._target = max([0, *(one.anchor.height for one in anchors), *(one.head.last for one in payloads)])
        for found in self._skip_known():
            if not self._follow(found):
                break
        self._take_loose(None)
        self._check_gap()
        return self.done

    @property
    def _height(self) -> int:
        return self._store.latest.head.number

    def _payloads(self) -> list[FoundPayload]:
        return list(self._scan.payloads.values())

    def _skip_known(self) -> list[FoundAnchor]:
        """The anchors from the last on that names a block which was there at the start: each names the one before."""
        anchors = self._scan.anchors
        known = list(takewhile(lambda one: one.anchor.height <= self._height, anchors)) if self._height else []
        if len(known) > 1:
            self._previous = known[-2].anchor.id
        return anchors[max(0, len(known) - 1) :]

    def _follow(self, found: FoundAnchor) -> bool:
        """Take what an anchor names and compare what it commits to; False: the vault left its signers."""
        height, root = found.anchor.height, found.anchor.data_root
        if not self._is_of_signers(found):
            self._take_loose(height)  # blocks below this anchor may have announced them
            if not self._is_of_signers(found):
                log.warning("the vault's list leaves its signers", at=str(found.place), height=self._height)
                return False
        if root != NO_DATA:
            self._take_chain(root, found)
        if self._height < height:
            self._take_loose(height)
        if self._height < height:
            reason = f"an anchor names block {height} ({found.place}), and no payload holds block {self._height + 1}"
            raise DataMissing(self._height + 1, reason)
        self._compare(found)
        return True

    def _is_of_signers(self, found: FoundAnchor) -> bool:
        """Whether the chain so far names those whom the anchor's transaction gives the vault to."""
        view = self._store.latest
        custodies = load_peg(view.state_at(view.head.hash).read_many).custodies
        return found.vault_script in [vault_output(one, rules_of(self._params)).script for one in custodies]

    def _compare(self, found: FoundAnchor) -> None:
        view, height = self._store.latest, found.anchor.height
        block_hash = view.canonical_hash(height)
        if block_hash is None:
            raise NodeFault(f"block {height} is above the head")
        try:
            found.anchor.check_facts(compute_facts(view, self._params, block_hash, self._previous))
        except StateNotKept:
            log.info("an anchor is too old to be compared", height=height, at=str(found.place))
            self._previous = found.anchor.id
            return
        except Invalid as error:
            raise RebuildDiffers(height, f"{_name(error)}, in the anchor of {found.place}") from error
        self._previous = found.anchor.id
        self._compared += 1
        self._anchored = height

    def _take_chain(self, root: bytes, found: FoundAnchor) -> None:
        """Import all payloads up to one, from the first whose blocks are not known."""
        chain: list[FoundPayload] = []
        while root != NO_PAYLOAD:
            payload = self._scan.payloads.get(root)
            if payload is None:
                reason = f"no transaction carries payload {root.hex()}, that the anchor of {found.place} leads to"
                raise DataMissing(self._height + 1, reason)
            if payload.head.last <= self._height:
                break
            chain.append(payload)
            root = payload.head.previous
        self._import(list(reversed(chain)))

    def _take_loose(self, until: int | None) -> None:
        """Import payloads that link to what is known, in order; of several for the same blocks the first valid one."""
        refused: list[tuple[int, str]] = []
        following: dict[bytes, list[FoundPayload]] = {}
        for one in self._payloads():
            following.setdefault(one.head.previous, []).append(one)
        for payload in sorted(self._payloads(), key=lambda one: one.head.first):
            if until is not None and self._height >= until:
                return
            is_known = self._store.latest.load_header(payload.head.parent) is not None
            if payload.head.part or payload.head.last <= self._height or not is_known:
                continue
            parts = [payload]
            while len(parts) < payload.head.parts:
                after = [one for one in following.get(parts[-1].root, ()) if one.head.part == len(parts)]
                if not after:
                    break
                parts.append(after[0])
            try:
                self._import(parts)
            except (RebuildDiffers, DataMissing) as error:  # anyone may have sent it: another may hold the same blocks
                log.warning("payload refused", at=str(payload.place), reason=str(error))
                refused.append((payload.head.last, str(error)))
        for last, reason in refused:
            if last > self._height:
                raise DataMissing(self._height + 1, f"what claims to be them is refused: {reason}")

    def _check_gap(self) -> None:
        beyond = [one for one in self._payloads() if one.head.first > self._height + 1]
        if beyond:
            first = min(beyond, key=lambda one: one.head.first)
            reason = f"the next payload holds blocks {first.head.first} to {first.head.last} ({first.place})"
            raise DataMissing(self._height + 1, reason)

    def _import(self, payloads: Sequence[FoundPayload]) -> None:
        batch: list[FoundPayload] = []
        for payload in payloads:
            batch.append(payload)
            if payload.head.part + 1 == payload.head.parts:
                self._import_batch(batch)
                batch = []
        if batch:
            reason = f"a part of block {batch[0].head.first} is missing after {batch[-1].place}"
            raise DataMissing(batch[0].head.first, reason)

    def _import_batch(self, found: Sequence[FoundPayload]) -> None:
        head, place = found[0].head, found[0].place
        at = head.first
        try:
            batch = read_batch([self._scan.load_payload(one.root) for one in found])
            parent = self._store.latest.load_header(head.parent)
            if parent is None or parent.number + 1 != head.first:
                raise RebuildDiffers(at, f"{place} continues block 0x{head.parent.hex()}, which is not the one below")
            for index in range(head.count):
                block = rebuild_block(batch, index, parent, self._load_body)
                at, parent = block.header.number, block.header
                self._imported += self._importer.import_block(block).outcome is not Outcome.KNOWN
                self._progress(self._height, self._target)
        except Invalid as error:
            raise RebuildDiffers(at, f"{_name(error)} ({place})") from error
        except NotYet as error:
            raise DataMissing(at, f"{_name(error)}; later it may be valid ({place})") from error

    def _load_body(self, number: int) -> bytes | None:
        view = self._store.latest
        block_hash = view.canonical_hash(number)
        return None if block_hash is None else view.load_encoded_body(block_hash)

    def _say_scanned(self, height: int, tip: int) -> None:
        if height % 1_000 == 0:
            log.info("reading bitcoin", height=height, of=tip)


def _name(error: HyperdustError) -> str:
    """What it says, after the name of its rule."""
    name, said = type(error).__name__, str(error)
    return said if said.startswith(name) else f"{name}: {said}"
