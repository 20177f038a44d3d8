"""Bitcoin as contracts see it: what lies at or below a block's origin, and nothing else; so all nodes answer the same.

A node that does not hold a block's origin cannot execute what asks for it: that is its own fault, never an answer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from coincurve import PublicKeyXOnly

from bridge.errors import HeaderUnknown
from bridge.headers import Header
from bridge.inclusion import Branch, compute_branch_root
from bridge.view import BitcoinView
from bridge.work import sha256d, show_hash
from chain.blocks import ZERO_HASH
from chain.engine import Precompile
from chain.errors import Invalid, NodeFault

BITCOIN_ORIGIN: Final = (0x480A).to_bytes(20, "big")
BITCOIN_HEADER: Final = (0x480B).to_bytes(20, "big")
BITCOIN_TRANSACTION: Final = (0x480C).to_bytes(20, "big")
BIP340: Final = (0x480D).to_bytes(20, "big")

_WORD: Final = 32
_SIZE_BYTES: Final = 2
_AMBIGUOUS_BYTES: Final = 64
"""A transaction of this size could be an inner node of a block's tree (CVE-2017-12842)."""
_MAX_BRANCH_BYTES: Final = 4 + 15 * _WORD  # ceil(log2(16,666)) siblings


class OriginNotHeld(NodeFault):
    """A contract asks for Bitcoin, and this node does not hold the block's origin."""

    def __init__(self, origin: bytes) -> None:
        super().__init__(
            f"a contract asks for Bitcoin below {show_hash(origin)}, which this node does not hold; "
            "is --bitcoin-rpc given, and has the node caught up?"
        )


@dataclass(frozen=True, slots=True)
class OriginView:
    """Bitcoin as of one origin. Each call takes input bytes and returns output bytes, or None where it fails."""

    bitcoin: BitcoinView | None
    """None: this node has no Bitcoin."""
    origin: bytes
    """Zero: the chain has none yet, and every call but `bip340` fails."""

    def bitcoin_origin(self, data: bytes) -> bytes | None:
        """Nothing -> hash of the origin, its height as a word."""
        if data or self.origin == ZERO_HASH:
            return None
        return self.origin + _word(self._origin_height()[1])

    def bitcoin_header(self, data: bytes) -> bytes | None:
        """Block hash -> its height as a word, its 80 bytes; of the origin and its ancestors."""
        if len(data) != _WORD or (found := self._find(data)) is None:
            return None
        height, raw = found
        return _word(height) + raw

    def bitcoin_transaction(self, data: bytes) -> bytes | None:
        """Block hash, size of a branch u16, the branch, a transaction without witnesses -> its id, the block's height.

        Not decoded: whose hash leads to the root of a block with work is a transaction, unless it has 64 bytes.
        """
        block_hash, size = data[:_WORD], int.from_bytes(data[_WORD : _WORD + _SIZE_BYTES], "big")
        start = _WORD + _SIZE_BYTES
        branch, transaction = data[start : start + size], data[start + size :]
        if len(branch) != size or size > _MAX_BRANCH_BYTES or not transaction or len(transaction) == _AMBIGUOUS_BYTES:
            return None
        if (found := self._find(block_hash)) is None:
            return None
        height, raw = found
        txid = sha256d(transaction)
        try:
            root = compute_branch_root(Branch.decode(branch), txid)
        except Invalid:
            return None
        return txid + _word(height) if root == Header.decode(raw).merkle_root else None

    def _find(self, block_hash: bytes) -> tuple[int, bytes] | None:
        """Height and 80 bytes of the origin or an ancestor of it."""
        if self.origin == ZERO_HASH:
            return None
        bitcoin, highest = self._origin_height()
        try:
            height = bitcoin.height_of(block_hash)
            if height > highest or bitcoin.ancestor(self.origin, height) != block_hash:
                return None
            return height, bitcoin.raw_header(block_hash)
        except HeaderUnknown:
            return None

    def _origin_height(self) -> tuple[BitcoinView, int]:
        if self.bitcoin is None:
            raise OriginNotHeld(self.origin)
        try:
            return self.bitcoin, self.bitcoin.height_of(self.origin)
        except HeaderUnknown as error:
            raise OriginNotHeld(self.origin) from error


def bip340(data: bytes) -> bytes | None:
    """Public key 32, message 32, signature 64 -> the word 1 where the signature is right. Source: BIP-340."""
    if len(data) != 2 * _WORD + 64:
        return None
    try:
        is_right = PublicKeyXOnly(data[:_WORD]).verify(data[2 * _WORD :], data[_WORD : 2 * _WORD])
    except ValueError:
        return None  # no point of the curve
    return _word(1) if is_right else None


def encode_transaction_call(block_hash: bytes, branch: Branch, stripped: bytes) -> bytes:
    """Return the input of `bitcoin_transaction`."""
    encoded = branch.encode()
    return block_hash + len(encoded).to_bytes(_SIZE_BYTES, "big") + encoded + stripped


def bitcoin_calls(bitcoin: BitcoinView | None, origin: bytes) -> tuple[Precompile, ...]:
    """The calls of a block with this origin; None as the view is a node without Bitcoin."""
    view = OriginView(bitcoin, origin)
    calls: tuple[tuple[bytes, Callable[[bytes], bytes | None], int, int], ...] = (
        (BITCOIN_ORIGIN, view.bitcoin_origin, 2000, 12),
        (BITCOIN_HEADER, view.bitcoin_header, 2000, 12),
        (BITCOIN_TRANSACTION, view.bitcoin_transaction, 16_000, 24),
        (BIP340, bip340, 12_000, 12),
    )
    return calls


def _word(value: int) -> bytes:
    return value.to_bytes(_WORD, "big")
