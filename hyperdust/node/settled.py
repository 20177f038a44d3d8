"""What is settled on the chain that a node follows, as rules, RPC and builders read it from one snapshot."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, Protocol

from chain.errors import NodeFault
from chain.params import FinalityParams
from consensus.finality import Checkpoint, Committee, compute_committee
from hyperdust.node.store import ChainSnapshot

MAX_COMMITTEES: Final = 128  # more than sources above the final checkpoint: no choice of links has one counted twice
_WINDOWS: Final = 4  # whose coinbases are kept in memory


class Anchors(Protocol):
    """What Bitcoin says of final checkpoints, where the chain is anchored there."""

    def safe(self, snapshot: ChainSnapshot) -> Checkpoint:
        """The last that an anchor with one confirmation names."""

    def finalized(self, snapshot: ChainSnapshot) -> Checkpoint:
        """The last that an anchor deep enough names."""


@dataclass(frozen=True, slots=True)
class SettledBlocks:
    """The blocks that `safe` and `finalized` mean in JSON-RPC: anchored where there are anchors, else voted."""

    snapshot: ChainSnapshot
    anchors: Anchors | None = None

    def safe(self) -> Checkpoint:
        """Anchored once; without anchors the last justified checkpoint."""
        if self.anchors is not None:
            return self.anchors.safe(self.snapshot)
        return self.snapshot.finality.highest(FollowedSnapshot(self.snapshot))

    def finalized(self) -> Checkpoint:
        """Anchored deeply; without anchors the last final checkpoint."""
        if self.anchors is not None:
            return self.anchors.finalized(self.snapshot)
        return self.snapshot.finality.final


@dataclass(frozen=True, slots=True)
class Remembered:
    """What need not be read again: the window slides by an epoch, and reading all of it anew takes most of a second."""

    committees: OrderedDict[bytes, Committee] = field(default_factory=OrderedDict)
    """By the hash and height of the window's last block."""
    coinbases: dict[bytes, bytes] = field(default_factory=dict)
    """By block hash."""


class FollowedSnapshot:
    """The canonical chain of one snapshot, as the rules of finality see it."""

    def __init__(
        self, snapshot: ChainSnapshot, params: FinalityParams | None = None, remembered: Remembered | None = None
    ) -> None:
        self._snapshot = snapshot
        self._params = params or FinalityParams()
        self._remembered = remembered or Remembered()

    def hash_at(self, number: int) -> bytes | None:
        """Hash of the canonical block at a height."""
        return self._snapshot.canonical_hash(number)

    def committee_at(self, end: int) -> Committee:
        """The committee of the window that ends at a height."""
        key = self._hash(max(end, 0)) + end.to_bytes(8, "big", signed=True)
        kept = self._remembered.committees
        committee = kept.get(key)
        if committee is None:
            if len(self._remembered.coinbases) > _WINDOWS * self._params.committee_blocks:
                self._remembered.coinbases.clear()
            committee = kept[key] = compute_committee(end, self._coinbase_at, self._params)
            while len(kept) > MAX_COMMITTEES:
                kept.popitem(last=False)
        return committee

    def _coinbase_at(self, number: int) -> bytes:
        block_hash = self._hash(number)
        coinbase = self._remembered.coinbases.get(block_hash)
        if coinbase is None:
            coinbase = self._snapshot.require_header(block_hash).coinbase
            self._remembered.coinbases[block_hash] = coinbase
        return coinbase

    def _hash(self, number: int) -> bytes:
        found = self._snapshot.canonical_hash(number)
        if found is None:
            raise NodeFault(f"no block at height {number}, below the head")
        return found
