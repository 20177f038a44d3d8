"""Which Bitcoin block an L2 block may build on: its origin. What contracts then see of Bitcoin: `precompiles.bitcoin`.

Views of Bitcoin differ from node to node and change, so nothing that only a view says makes a block invalid: it is not
valid yet. Depth counts the blocks on top, so that only a reorganisation deeper than the rule's depth reaches an origin.
"""

from bridge.errors import HeaderUnknown
from bridge.view import BitcoinView
from chain.blocks import ZERO_HASH
from consensus.errors import (
    OriginBelowParents,
    OriginDropped,
    OriginNotFollowed,
    OriginStale,
    OriginTooShallow,
    OriginUnknown,
)


def check_origin(
    origin: bytes, parent_origin: bytes, depth_blocks: int, bitcoin: BitcoinView | None, *, has_evidence: bool = False
) -> None:
    """Check a header's `parent_beacon_block_root` against its parent's and this node's view of Bitcoin.

    A block may always keep its parent's origin, whatever became of that: Bitcoin never stops the chain. Not so one that
    carries evidence: nothing is credited by a branch that Bitcoin has left. None as the view is a node without Bitcoin.

    Raises:
        OriginDropped, OriginBelowParents: never valid.
        OriginNotFollowed, OriginUnknown, OriginStale, OriginTooShallow: not valid yet, as far as this node sees.
    """
    if origin == parent_origin and not (has_evidence and origin != ZERO_HASH):
        return
    if origin == ZERO_HASH:
        raise OriginDropped("parent_beacon_block_root", origin, "an origin, as the parent has one")
    if bitcoin is None:
        raise OriginNotFollowed(origin)
    height = _height(bitcoin, origin)
    if parent_origin != ZERO_HASH and height < (lowest := _height(bitcoin, parent_origin)):
        raise OriginBelowParents("height of the origin", height, f"at least {lowest}, as the parent's")
    if not (confirmations := bitcoin.confirmations(origin)):
        raise OriginStale(origin, height)
    if confirmations <= depth_blocks:
        raise OriginTooShallow(height, confirmations - 1, depth_blocks)


def choose_origin(parent_origin: bytes, depth_blocks: int, bitcoin: BitcoinView | None) -> bytes:
    """The newest origin that a block may have; the parent's where there is none better."""
    if bitcoin is None:
        return parent_origin
    try:
        newest = bitcoin.hash_at(bitcoin.height - depth_blocks)
        if parent_origin != ZERO_HASH and bitcoin.height_of(newest) < bitcoin.height_of(parent_origin):
            return parent_origin
    except HeaderUnknown:
        return parent_origin
    return newest


def _height(bitcoin: BitcoinView, block_hash: bytes) -> int:
    try:
        return bitcoin.height_of(block_hash)
    except HeaderUnknown as error:
        raise OriginUnknown(block_hash) from error
