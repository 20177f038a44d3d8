"""What Bitcoin's blocks hold of this L2: the list of vault transactions with their anchors, and payloads of blocks.

Blocks come from one bitcoind, which is believed in nothing: whatever is taken out of a block stands under the Merkle
root of a header of the node's own header chain. A bitcoind that hides contents can make data be missing, never wrong.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bridge.anchors import Anchor, find_anchor
from bridge.batch import BatchHead, read_head
from bridge.data import data_root, find_envelopes, find_payload
from bridge.inclusion import compute_merkle_root
from bridge.peg_errors import AnchorMalformed, BatchMalformed
from bridge.scripts import MAGIC
from bridge.transactions import Transaction, read_block
from bridge.view import BitcoinView
from bridge.work import sha256d, show_hash
from chain.errors import HyperdustError, NodeFault
from hyperdust.bitcoind import Bitcoind

_MOST_AT_ONCE: Final = 128
_BYTES_AT_ONCE: Final = 2 * 1024 * 1024
"""Blocks are asked for together as long as they are small."""


class BlockNotTheHeaders(NodeFault):
    """The bitcoind gave another block than the header chain has at that height."""

    def __init__(self, height: int, reason: str) -> None:
        super().__init__(f"bitcoind's block at height {height} is not the one of our headers: {reason}; name another")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a transaction stands on the best chain."""

    height: int
    block_hash: bytes
    txid: bytes

    def __str__(self) -> str:
        return f"transaction {show_hash(self.txid)} in Bitcoin block {self.height}"


@dataclass(frozen=True, slots=True)
class FoundAnchor:
    """An anchor of the vault's list."""

    anchor: Anchor
    place: Place
    vault_script: bytes
    """Of the vault output beside it: whose it is, only the L2's state can say."""


@dataclass(frozen=True, slots=True)
class FoundPayload:
    """A payload of L2 blocks, by anyone."""

    root: bytes
    """`data_root`."""
    head: BatchHead
    key: bytes
    """x-only: who revealed it."""
    place: Place


class BitcoinScan:
    """Reads Bitcoin's blocks in order, each once. Not safe to share between threads.

    The list of vault transactions: its second one is the first transaction whose first input spends output 0 of a
    transaction that pays it to `vault_script`, which takes k of n signatures; each later one spends output 0 of the
    one before by its first input. Bitcoin itself lets nobody fork it.
    """

    def __init__(self, client: Bitcoind, view: BitcoinView, vault_script: bytes | None, start_height: int) -> None:
        """`vault_script`: of the genesis' signers; None: the L2 has no vault."""
        self.anchors: list[FoundAnchor] = []
        self.payloads: dict[bytes, FoundPayload] = {}
        """By data root, in the order of Bitcoin."""
        self.height = start_height - 1
        """Of the last block that was read."""
        self._client = client
        self._view = view
        self._vault_script = vault_script
        self._starts: set[bytes] = set()  # transactions whose output 0 pays to the vault, before there is a list
        self._tip: bytes | None = None  # the last of the list

    def advance(self, on_block: Callable[[int, int], None] = lambda _height, _of: None) -> None:
        """Read what came since the last time; `on_block` is told height and tip.

        Raises:
            NodeFault: the bitcoind does not answer, has pruned a block, or gives another than that of the header.
        """
        at_once = 1
        while self.height < (tip := self._view.height):
            hashes = [self._view.hash_at(height) for height in range(self.height + 1, tip + 1)[:at_once]]
            blocks = self._client.raw_blocks(hashes)
            for block_hash, raw in zip(hashes, blocks, strict=True):
                self._read(self.height + 1, block_hash, raw)
                self.height += 1
                on_block(self.height, tip)
            at_once = min(_MOST_AT_ONCE, max(1, _BYTES_AT_ONCE * len(blocks) // sum(map(len, blocks))))

    def load_payload(self, root: bytes) -> bytes:
        """The bytes of a payload that was found.

        Raises:
            NodeFault: the bitcoind no longer gives them.
        """
        place = self.payloads[root].place
        raw = self._client.raw_transaction(place.txid, place.block_hash)
        try:
            payload = find_payload(Transaction.decode(raw), root)
        except HyperdustError as error:
            raise BlockNotTheHeaders(place.height, str(error)) from error
        if payload is None:
            raise BlockNotTheHeaders(place.height, f"{place} comes without the data that it had")
        return payload

    def _read(self, height: int, block_hash: bytes, raw: bytes) -> None:
        if sha256d(raw[:80]) != block_hash:
            raise BlockNotTheHeaders(height, f"its hash is {show_hash(sha256d(raw[:80]))}")
        if not any(needle in raw for needle in self._needles()):
            return
        try:
            header, transactions = read_block(raw)
            root = compute_merkle_root(tuple(one.txid for one in transactions))
        except HyperdustError as error:
            raise BlockNotTheHeaders(height, str(error)) from error
        if root != header[36:68]:
            raise BlockNotTheHeaders(height, f"Merkle root {show_hash(root)}")
        for transaction in transactions:
            place = Place(height, block_hash, transaction.txid)
            self._follow_vault(transaction, place)
            self._find_payloads(transaction, place)

    def _needles(self) -> tuple[bytes, ...]:
        """Bytes without which a block holds nothing of ours."""
        if self._tip is not None:
            return MAGIC, self._tip
        return (MAGIC, *self._starts, *([self._vault_script] if self._vault_script else []))

    def _follow_vault(self, transaction: Transaction, place: Place) -> None:
        spent = transaction.inputs[0]
        follows = spent.index == 0 and (spent.txid == self._tip if self._tip else spent.txid in self._starts)
        if not follows:
            if self._tip is None and transaction.outputs[0].script == self._vault_script:
                self._starts.add(place.txid)
            return
        self._tip = place.txid
        try:
            anchor = find_anchor(transaction)
        except AnchorMalformed:
            return  # the peg freezes by it; whoever rebuilds finds out by executing
        if anchor is not None:
            self.anchors.append(FoundAnchor(anchor, place, transaction.outputs[0].script))

    def _find_payloads(self, transaction: Transaction, place: Place) -> None:
        for payload, key in find_envelopes(transaction):
            try:
                head = read_head(payload)
            except BatchMalformed:
                continue
            root = data_root(payload)
            self.payloads.setdefault(root, FoundPayload(root, head, key, place))
