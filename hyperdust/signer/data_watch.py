"""Payloads of blocks on this signer's bitcoind, found block by block, and which of them the next anchor may name."""

from dataclasses import dataclass
from typing import Final

import structlog

from bridge.anchors import NO_DATA
from bridge.batch import BatchHead, read_head
from bridge.data import data_root, find_envelopes
from bridge.errors import TransactionMalformed
from bridge.peg_errors import BatchMalformed
from bridge.peg_state import PegState
from bridge.scripts import MAGIC
from bridge.transactions import Transaction, read_block
from hyperdust.signer.data import DataView, check_batch, find_base
from hyperdust.signer.errors import DataDiffers, DataUnknown, SourceFault
from hyperdust.signer.proposal import MAX_PAYLOADS, PayloadPlace

log = structlog.get_logger()

_BACK: Final = 2_016
"""Blocks before the last anchor with data, or before the tip, from which on payloads are looked for: two weeks."""
_AT_ONCE: Final = 16
"""Blocks read by one call: a signer answers others in between."""
_REREAD: Final = 100
"""Blocks read again after a reorganisation."""
_KEPT: Final = 4_096
"""Payloads remembered; the oldest go first."""
_PAUSE_BLOCKS: Final = 12
"""Bitcoin blocks for which anchors go without data after others refused some."""


@dataclass(frozen=True, slots=True)
class _Seen:
    place: PayloadPlace
    head: BatchHead


class DataWatch:
    """Reads each block of one bitcoind once. One thread."""

    def __init__(self) -> None:
        self._seen: dict[bytes, _Seen] = {}
        self._refused: set[bytes] = set()
        self._height: int | None = None
        self._hash = b""
        self._paused_until = 0

    def advance(self, state: PegState, view: DataView) -> None:
        """Read some of the blocks that came since the last time.

        Raises:
            NodeFault: bitcoind does not answer.
        """
        tip = view.bitcoin.load_height()
        if self._height is None:
            self._height = max(0, self._start(state, tip, view) - _BACK)
        elif self._height <= tip and view.bitcoin.load_block_hash(self._height) == self._hash:
            if self._height == tip:
                return
        elif self._hash:
            self._height, self._hash = max(0, min(tip, self._height) - _REREAD), b""
        for height in range(self._height + 1, min(tip, self._height + _AT_ONCE) + 1):
            block_hash = view.bitcoin.load_block_hash(height)
            self._read(view.bitcoin.load_block(block_hash))
            self._height, self._hash = height, block_hash

    def choose(self, state: PegState, number: int, view: DataView) -> tuple[bytes, tuple[PayloadPlace, ...]]:
        """The data root for an anchor of a block, and where the payloads lie that lead to it; zero: there are none.

        Bounded: one anchor takes some payloads, the next one goes on.

        Raises:
            NodeFault: bitcoind does not answer.
        """
        if not self._seen or state.vault is None or view.bitcoin.load_height() < self._paused_until:
            return NO_DATA, ()
        base, _ = find_base(state, view)
        places, before, last = list[PayloadPlace](), NO_DATA, 0
        if (known := self._seen.get(base)) is not None:
            places, before, last = [known.place], base, known.head.last
        found = len(places)
        following: dict[bytes, list[_Seen]] = {}
        for one in self._seen.values():
            following.setdefault(one.head.previous, []).append(one)
        while (batch := self._next(following, before, last, number, view)) and len(places) + len(batch) <= MAX_PAYLOADS:
            places += [one.place for one in batch]
            before, last = places[-1].root, batch[-1].head.last
        return (before, tuple(places)) if len(places) > found else (NO_DATA, ())

    def pause(self, height: int) -> None:
        """Name no data for a while from a Bitcoin height on: anchors do not wait for it."""
        self._paused_until = height + _PAUSE_BLOCKS

    def _next(
        self, following: dict[bytes, list[_Seen]], before: bytes, last: int, number: int, view: DataView
    ) -> list[_Seen]:
        """The first valid batch that follows; anybody can send others."""
        for first in following.get(before, ()):
            head = first.head
            if head.part or head.first != last + 1 or head.last > number or first.place.root in self._refused:
                continue
            batch = [first]
            while len(batch) < min(head.parts, MAX_PAYLOADS + 1):
                after = [one for one in following.get(batch[-1].place.root, ()) if one.head.part == len(batch)]
                if not after:
                    break
                batch.append(after[0])
            if len(batch) != head.parts:
                continue
            try:
                check_batch(before, last, [one.place for one in batch], number, view)
            except DataDiffers as error:
                log.warning("payload refused", root=first.place.root.hex(), reason=str(error))
                self._refused.add(first.place.root)
            except (DataUnknown, SourceFault) as error:
                log.info("payload waits", root=first.place.root.hex(), reason=str(error))
            else:
                return batch
        return []

    @staticmethod
    def _start(state: PegState, tip: int, view: DataView) -> int:
        base, txid = find_base(state, view)
        mined = None if base == NO_DATA else view.bitcoin.load_mined(txid)
        return tip if mined is None else mined.height

    def _read(self, raw: bytes) -> None:
        if MAGIC not in raw:
            return
        try:
            _, transactions = read_block(raw)
        except TransactionMalformed as error:
            raise SourceFault(f"bitcoind gives no block: {error}") from error
        for transaction in transactions:
            self._find(transaction)

    def _find(self, transaction: Transaction) -> None:
        for payload, _ in find_envelopes(transaction):
            try:
                head = read_head(payload)
            except BatchMalformed:
                continue
            root = data_root(payload)
            self._seen.pop(root, None)
            self._seen[root] = _Seen(PayloadPlace(root, transaction.txid), head)
        while len(self._seen) > _KEPT:
            self._refused.discard(next(iter(self._seen)))
            self._seen.pop(next(iter(self._seen)))
