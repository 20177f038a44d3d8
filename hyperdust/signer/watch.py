"""Which transactions follow the vault on this signer's bitcoind, block by block; also those that nobody planned."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from bridge.deposits import Outpoint
from bridge.peg_state import PegState, VaultCoin
from hyperdust.signer.protection import Version, read_outpoint, show_txid
from hyperdust.signer.rebuild import outpoint_of
from hyperdust.signer.repair import count_kept
from hyperdust.signer.sources import Bitcoin, Mined

_AT_ONCE: Final = 100
"""Blocks read by one call, so that a signer long absent still answers others."""
_BEFORE: Final = 100
"""Blocks that are read below the height at which a first round was signed: a reorganisation may mine it there."""


@dataclass(frozen=True, slots=True)
class Found:
    """A transaction that continues the list on Bitcoin."""

    txid: bytes
    mined: Mined
    is_first: bool


@dataclass(slots=True)
class _Cursor:
    """Where reading stands, from one start."""

    start: Outpoint | None
    coin: Outpoint | None
    """The last vault found; None: the first round is not mined."""
    height: int
    """Of the last block read."""
    hashes: dict[int, bytes]
    found: list[Found]
    gone: dict[Outpoint, tuple[bytes, int]]
    """Deposits of first rounds that a block spends: by whom, and its height."""


class Watch:
    """Follows one bitcoind. One thread."""

    def __init__(self, bitcoin: Bitcoin) -> None:
        self._bitcoin = bitcoin
        self._cursor: _Cursor | None = None

    def follow(self, state: PegState, firsts: Collection[Version]) -> tuple[Found, ...]:
        """Vault transactions of the best chain that the state does not stand on, oldest first.

        Args:
            state: the peg at the node's head.
            firsts: what is known of first rounds; looked at as long as Bitcoin has no vault of the state.
        """
        begun = self._last_good(state)
        if begun is None and not (firsts or state.records):
            return ()
        start = outpoint_of(begun)
        known = {one.txid for one in firsts} | {show_txid(one.coin.txid) for one in state.records[:1]}
        signed = [*(one.height for one in firsts), *(one.coin.height for one in state.records[:1])]
        height = min(signed, default=0) - _BEFORE if begun is None else begun.height - 1
        cursor = self._cursor
        if cursor is None or cursor.start != start or not self._is_on_chain(cursor):
            cursor = self._cursor = _Cursor(start, start, max(height, 0), {}, [], {})
        tip = self._bitcoin.load_height()
        for at in range(cursor.height + 1, min(tip, cursor.height + _AT_ONCE) + 1):
            self._read(cursor, at, firsts, known)
        return tuple(cursor.found)

    @property
    def vault(self) -> Outpoint | None:
        """The last vault that was found; None: none yet."""
        return None if self._cursor is None else self._cursor.coin

    def dead_firsts(self, firsts: Collection[Version], depth: int) -> frozenset[str]:
        """Ids of first rounds of which another transaction, so deep, spends a deposit."""
        if (cursor := self._cursor) is None:
            return frozenset()
        mined = {show_txid(one.txid) for one in cursor.found}
        deep = {place for place, (_, height) in cursor.gone.items() if cursor.height - height >= depth}
        return frozenset(
            one.txid for one in firsts if one.txid not in mined and deep & set(map(read_outpoint, one.inputs))
        )

    def _last_good(self, state: PegState) -> VaultCoin | None:
        """The newest vault of the state below which this signer's bitcoind has all."""
        kept = count_kept(state, self._bitcoin)
        return state.records[kept - 1].coin if kept else state.base

    def _is_on_chain(self, cursor: _Cursor) -> bool:
        if not cursor.hashes:
            return True
        if cursor.height > self._bitcoin.load_height():
            return False
        return self._bitcoin.load_block_hash(cursor.height) == cursor.hashes[cursor.height]

    def _read(self, cursor: _Cursor, height: int, firsts: Collection[Version], known: Collection[str]) -> None:
        block_hash = self._bitcoin.load_block_hash(height)
        deposits = {read_outpoint(place) for one in firsts for place in one.inputs}
        for spend in self._bitcoin.load_spends(block_hash):
            if cursor.coin is not None and cursor.coin in spend.inputs:
                cursor.found.append(Found(spend.txid, Mined(block_hash, height), is_first=False))
                cursor.coin = Outpoint(spend.txid, 0)
            elif cursor.coin is None:
                for place in deposits.intersection(spend.inputs):
                    cursor.gone[place] = spend.txid, height
                if show_txid(spend.txid) in known:
                    cursor.found.append(Found(spend.txid, Mined(block_hash, height), is_first=True))
                    cursor.coin = Outpoint(spend.txid, 0)
        cursor.height, cursor.hashes = height, {height: block_hash}
