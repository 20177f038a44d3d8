"""Blocks that this node's view of Bitcoin does not allow yet: kept to be tried again when it shows more.

Kept is what has shown its work, and what builds on such a block: filling the room costs as much as making blocks. It is
bounded by number and bytes; where none is left a newcomer is not kept, since what came first has to be imported first.
In memory alone: after a restart blocks come anew from wherever they came.
"""

from dataclasses import dataclass
from typing import Final

from chain.blocks import Block

MAX_BLOCKS: Final = 256  # 25 minutes of the main network: a bitcoind that restarts and catches up
MAX_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Waiting:
    block: Block
    size: int
    has_shown_work: bool


class WaitingBlocks:
    """Bounded; for one thread at a time."""

    def __init__(self, max_blocks: int = MAX_BLOCKS, max_bytes: int = MAX_BYTES) -> None:
        self._max_blocks = max_blocks
        self._max_bytes = max_bytes
        self._blocks: dict[bytes, _Waiting] = {}

    def __contains__(self, block_hash: bytes) -> bool:
        """Whether a block waits."""
        return block_hash in self._blocks

    def __len__(self) -> int:
        """How many wait."""
        return len(self._blocks)

    @property
    def size_bytes(self) -> int:
        """Of all that wait, encoded."""
        return sum(one.size for one in self._blocks.values())

    def keep(self, block: Block, *, has_shown_work: bool) -> bool:
        """Keep a block, if there is room: one that has shown its work takes the place of those that have not."""
        block_hash = block.header.hash
        known = self._blocks.get(block_hash)
        if known is not None and known.has_shown_work >= has_shown_work:
            return True
        size = len(block.encode()) if known is None else known.size
        self._blocks.pop(block_hash, None)
        if has_shown_work:
            self._make_room(size)
        if len(self._blocks) >= self._max_blocks or self.size_bytes + size > self._max_bytes:
            return False
        self._blocks[block_hash] = _Waiting(block, size, has_shown_work)
        return True

    def drop(self, block_hash: bytes) -> None:
        """Forget a block."""
        self._blocks.pop(block_hash, None)

    def has_child(self, block_hash: bytes) -> bool:
        """Whether a block waits that builds on that one."""
        return any(one.block.header.parent_hash == block_hash for one in self._blocks.values())

    def by_height(self) -> list[Block]:
        """All that wait, parents before children."""
        return sorted((one.block for one in self._blocks.values()), key=lambda block: block.header.number)

    def _make_room(self, size: int) -> None:
        """Drop those without work, the newest first: their parents came before them."""
        for block_hash, one in reversed(list(self._blocks.items())):
            if len(self._blocks) < self._max_blocks and self.size_bytes + size <= self._max_bytes:
                return
            if not one.has_shown_work:
                del self._blocks[block_hash]
