"""What a node keeps of the peg beside the chain: evidence that waits, addresses that were asked for, anchors."""

from dataclasses import dataclass

import structlog

from bridge.errors import HeaderUnknown
from chain.params import ChainParams
from consensus.peg import load_peg
from hyperdust.node.anchors import AnchorIndex
from hyperdust.node.announced import AnnouncedDeposits
from hyperdust.node.bitcoin import BitcoinChain
from hyperdust.node.evidence import EvidencePool
from hyperdust.node.importer import Imported, Outcome
from hyperdust.node.store import Store

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Peg:
    """Each part is safe to use from any thread."""

    params: ChainParams
    store: Store
    bitcoin: BitcoinChain
    evidence: EvidencePool
    announced: AnnouncedDeposits
    anchors: AnchorIndex

    def on_imported(self, imported: Imported) -> None:
        """Learn anchors from a new head, and thaw the node's own alarm once the peg has followed Bitcoin again."""
        if imported.outcome is not Outcome.HEAD or imported.reorganisation is None:
            return
        self.anchors.note(self.store.latest, imported.reorganisation.adopted)
        self.anchors.finalized(self.store.latest)  # kept from now on, whether or not anybody asks
        if self.bitcoin.frozen is not None and self._has_followed():
            self.bitcoin.thaw()

    def _has_followed(self) -> bool:
        """Whether the head's origin lies deep on the best chain, and the peg as of it is not frozen."""
        view = self.store.latest
        try:
            on_top = self.bitcoin.confirmations(view.head.header.parent_beacon_block_root) - 1
        except HeaderUnknown:
            return False
        if on_top < self.params.origin_depth_blocks:
            return False
        return load_peg(view.state_at(view.head.hash).read_many).frozen is None


def open_peg(params: ChainParams, store: Store, bitcoin: BitcoinChain | None) -> Peg | None:
    """None where the network has no peg, or the node no Bitcoin.

    Raises:
        StoreFault: the database holds something else.
    """
    if params.peg is None or bitcoin is None:
        return None
    evidence = EvidencePool(params, store, bitcoin)
    anchors = AnchorIndex(params, store, bitcoin, evidence)
    return Peg(params, store, bitcoin, evidence, AnnouncedDeposits(store), anchors)
