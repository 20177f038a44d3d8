"""What the protocol reads of a validator's header chain; `HeaderChain` is one, and tests have another."""

from typing import Protocol


class BitcoinView(Protocol):
    """Checked headers, as of now. Hashes in the order in which they are computed."""

    @property
    def height(self) -> int:
        """Of the best chain's tip."""

    def hash_at(self, height: int) -> bytes:
        """Hash of the best chain's block at a height.

        Raises:
            HeaderUnknown: below the first known block, or above the tip.
        """

    def height_of(self, block_hash: bytes) -> int:
        """Height of a known block of any branch.

        Raises:
            HeaderUnknown: none of this hash.
        """

    def raw_header(self, block_hash: bytes) -> bytes:
        """80 bytes of a known block of any branch.

        Raises:
            HeaderUnknown: none of this hash.
        """

    def ancestor(self, block_hash: bytes, height: int) -> bytes:
        """Hash of the block at `height` on the branch that ends in a known block, that block included.

        Raises:
            HeaderUnknown: no such block, or the height is not on the branch.
        """

    def confirmations(self, block_hash: bytes) -> int:
        """1 for the tip, one more for each block on top; 0 outside of the best chain."""
