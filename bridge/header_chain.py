"""Our own view of Bitcoin: checked headers, the branch with the most work, what a reorganisation changed.

Pure: headers and the clock come in. Bitcoin's first-seen rule decides between equal work. Branches that leave the
best chain more than `KEEP_BLOCKS` below its tip are refused, and forgotten once the tip is that far away.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Final, Self

from bridge.checkpoint import Checkpoint, check_checkpoint, genesis_checkpoint
from bridge.errors import ChainMalformed, ForkTooDeep, HeadersUnconnected, HeaderUnknown, UnknownParentHeader
from bridge.header_batch import try_batch
from bridge.headers import HEADER_BYTES, Context, Header, apply_header, check_header, split_headers
from bridge.params import MAX_FUTURE_S, MEDIAN_BLOCKS, RETARGET_BLOCKS, BitcoinParams
from bridge.work import sha256d, show_hash

KEEP_BLOCKS: Final = RETARGET_BLOCKS
"""Depth of forks that are followed: two weeks."""
KEEP_SIDE_HEADERS: Final = 4 * RETARGET_BLOCKS
"""Headers beside the best chain; above it the branches with the least work go first."""
_END_OF_TIME: Final = (1 << 32) - 1 - MAX_FUTURE_S
_COUNT_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Reorganisation:
    """The best chain left a branch for a heavier one."""

    fork_height: int
    """Of the last block that both share."""
    abandoned: tuple[bytes, ...]
    """Hashes, lowest first."""
    adopted: tuple[bytes, ...]
    """Hashes, lowest first."""

    @property
    def depth(self) -> int:
        """How many blocks lost their place."""
        return len(self.abandoned)


@dataclass(frozen=True, slots=True)
class Update:
    """What new headers changed."""

    added: int
    """Headers that were new."""
    height: int
    """Of the tip now."""
    tip: bytes
    """Its hash."""
    reorganisation: Reorganisation | None
    """None where the best chain only grew, or stayed."""


@dataclass(frozen=True, slots=True)
class _Side:
    raw: bytes
    height: int
    work: int
    parent_hash: bytes


class HeaderChain:
    """Headers from a checkpoint on; everything in it keeps every rule of `headers`."""

    def __init__(self, params: BitcoinParams, checkpoint: Checkpoint | None = None) -> None:
        """Start at genesis, or at a checkpoint.

        Raises:
            CheckpointInvalid, HeaderMalformed, BadTarget: a checkpoint that cannot be one.
        """
        self.params = params
        self.checkpoint = checkpoint or genesis_checkpoint(params)
        self._start = check_checkpoint(params, self.checkpoint)
        self._tip = self._start
        self._raw = bytearray(self.checkpoint.header)
        self._hashes = [self._start.parent_hash]
        self._works = [self._start.work]
        self._heights = {self._start.parent_hash: self.checkpoint.height}
        self._side: dict[bytes, _Side] = {}

    # --- what is known

    @property
    def height(self) -> int:
        """Of the tip of the best chain."""
        return self._tip.height - 1

    @property
    def tip(self) -> bytes:
        """Hash of the best chain's last block."""
        return self._tip.parent_hash

    @property
    def work(self) -> int:
        """Cumulative work of the best chain."""
        return self._tip.work

    def __contains__(self, block_hash: object) -> bool:
        return block_hash in self._heights or block_hash in self._side

    def hash_at(self, height: int) -> bytes:
        """Hash of the best chain's block at a height.

        Raises:
            HeaderUnknown: below the checkpoint, or above the tip.
        """
        if not self.checkpoint.height <= height <= self.height:
            raise HeaderUnknown("height", height, f"{self.checkpoint.height} to {self.height}")
        return self._hashes[height - self.checkpoint.height]

    def height_of(self, block_hash: bytes) -> int:
        """Height of a known block of any branch.

        Raises:
            HeaderUnknown: none of this hash.
        """
        if (height := self._heights.get(block_hash)) is not None:
            return height
        return self._side_of(block_hash).height

    def header(self, block_hash: bytes) -> Header:
        """A known header of any branch.

        Raises:
            HeaderUnknown: none of this hash.
        """
        return Header.decode(self.raw_header(block_hash))

    def raw_header(self, block_hash: bytes) -> bytes:
        """Its 80 bytes; likewise."""
        if (height := self._heights.get(block_hash)) is not None:
            at = (height - self.checkpoint.height) * HEADER_BYTES
            return bytes(self._raw[at : at + HEADER_BYTES])
        return self._side_of(block_hash).raw

    def work_of(self, block_hash: bytes) -> int:
        """Cumulative work of the branch that ends in a known block.

        Raises:
            HeaderUnknown: none of this hash.
        """
        if (height := self._heights.get(block_hash)) is not None:
            return self._works[height - self.checkpoint.height]
        return self._side_of(block_hash).work

    def confirmations(self, block_hash: bytes) -> int:
        """1 for the tip, one more for each block on top; 0 outside of the best chain."""
        height = self._heights.get(block_hash)
        return 0 if height is None else self.height - height + 1

    def ancestor(self, block_hash: bytes, height: int) -> bytes:
        """Hash of the block at `height` on the branch that ends in a known block, that block included.

        Raises:
            HeaderUnknown: no such block, or the height is not on the branch.
        """
        top = self.height_of(block_hash)
        if not self.checkpoint.height <= height <= top:
            raise HeaderUnknown("height", height, f"{self.checkpoint.height} to {top}")
        while (side := self._side.get(block_hash)) is not None and side.height > height:
            block_hash = side.parent_hash
        return block_hash if side is not None else self._hashes[height - self.checkpoint.height]

    def context_after(self, block_hash: bytes) -> Context:
        """What the rules for a child of a known block read; `median_time_past` among it.

        Raises:
            HeaderUnknown: none of this hash.
        """
        if block_hash == self.tip:
            return self._tip
        height, header = self.height_of(block_hash), self.header(block_hash)
        lowest = max(self.checkpoint.height, height - MEDIAN_BLOCKS + 1)
        before = [self.header(self.ancestor(block_hash, at)).timestamp for at in range(lowest, height + 1)]
        stamps = (*self.checkpoint.timestamps, *before) if lowest == self.checkpoint.height else tuple(before)
        start = height - height % RETARGET_BLOCKS
        in_reach = start >= self.checkpoint.height
        first = self.header(self.ancestor(block_hash, start)) if in_reach else self._start.period_first
        regular = self._regular_bits(block_hash, start) if self.params.min_difficulty else header.bits
        return Context(
            height + 1, header, block_hash, stamps[-MEDIAN_BLOCKS:], first, regular, self.work_of(block_hash)
        )

    def checkpoint_at(self, block_hash: bytes) -> Checkpoint:
        """A checkpoint from which a chain can start anew, at a known block.

        Raises:
            HeaderUnknown: none of this hash.
            CheckpointInvalid: not a place for one (`Checkpoint.height`).
        """
        context = self.context_after(block_hash)
        first, stamps = context.period_first.encode(), context.timestamps[:-1]
        made = Checkpoint(context.height - 1, self.raw_header(block_hash), first, context.work, stamps)
        check_checkpoint(self.params, made)
        return made

    # --- growing

    def extend(self, raw: bytes, now: int) -> Update:
        """Check headers that stand in a row and take in all of them, or none; known ones at the front are passed over.

        Raises:
            UnknownParentHeader: their parent has not been seen.
            ForkTooDeep: they leave the best chain too far below its tip.
            HeaderMalformed, HeadersUnconnected and the other rules of `check_header`: one of them is invalid.
        """
        headers = split_headers(raw)
        hashes = [sha256d(header) for header in headers[:1]]
        known = 0
        while known < len(headers) and hashes[-1] in self:
            known += 1
            hashes.extend(sha256d(header) for header in headers[known : known + 1])
        if known == len(headers):
            return Update(0, self.height, self.tip, None)
        parent = headers[known][4:36]
        if known and parent != hashes[known - 1]:
            raise HeadersUnconnected("parent", show_hash(parent), show_hash(hashes[known - 1]))
        if parent not in self:
            raise UnknownParentHeader(parent)
        if (fork := self._fork_of(parent)) < self.height - KEEP_BLOCKS:
            raise ForkTooDeep("fork", fork, f"at least {self.height - KEEP_BLOCKS}")
        context = self._tip if parent == self.tip else self.context_after(parent)
        batch = try_batch(self.params, context, raw[known * HEADER_BYTES :], now)
        if batch is not None:
            accepted, works, context = batch.hashes, batch.works, batch.context
        else:
            accepted, works, context = self._check_each(context, headers[known:], now)
        if parent == self.tip:
            self._grow(raw[known * HEADER_BYTES :], accepted, works, context)
            reorganisation = None
        else:
            self._branch(parent, headers[known:], accepted, works)
            reorganisation = self._reorganise(fork, context) if context.work > self.work else None
        if self._side:
            self._forget()
        return Update(len(accepted), self.height, self.tip, reorganisation)

    def _check_each(
        self, context: Context, headers: list[bytes], now: int
    ) -> tuple[tuple[bytes, ...], tuple[int, ...], Context]:
        hashes, works = [], []
        for raw in headers:
            header, block_hash = check_header(self.params, context, raw, now)
            context = apply_header(self.params, context, header, block_hash)
            hashes.append(block_hash)
            works.append(context.work)
        return tuple(hashes), tuple(works), context

    def _grow(self, raw: bytes, hashes: tuple[bytes, ...], works: tuple[int, ...], context: Context) -> None:
        self._heights.update(zip(hashes, range(self._tip.height, context.height), strict=True))
        self._raw += raw
        self._hashes += hashes
        self._works += works
        self._tip = context

    def _branch(self, parent: bytes, headers: list[bytes], hashes: tuple[bytes, ...], works: tuple[int, ...]) -> None:
        height = self.height_of(parent) + 1
        for at, (raw, block_hash, work) in enumerate(zip(headers, hashes, works, strict=True), start=height):
            self._side[block_hash] = _Side(raw, at, work, raw[4:36])

    def _reorganise(self, fork: int, context: Context) -> Reorganisation:
        keep = fork + 1 - self.checkpoint.height
        abandoned = tuple(self._hashes[keep:])
        for at, block_hash in enumerate(abandoned, start=fork + 1):
            raw = self.raw_header(block_hash)
            self._side[block_hash] = _Side(raw, at, self._works[at - self.checkpoint.height], raw[4:36])
        for block_hash in abandoned:
            del self._heights[block_hash]
        del self._hashes[keep:]
        del self._works[keep:]
        del self._raw[keep * HEADER_BYTES :]
        adopted = [(block_hash, self._side[block_hash]) for block_hash in self._down(context.parent_hash)][::-1]
        for block_hash, side in adopted:
            del self._side[block_hash]
            self._heights[block_hash] = side.height
            self._hashes.append(block_hash)
            self._works.append(side.work)
            self._raw += side.raw
        self._tip = context
        return Reorganisation(fork, abandoned, tuple(block_hash for block_hash, _ in adopted))

    def _forget(self) -> None:
        """Drop side branches that leave too deep, then the lightest ends, until the rest is few enough."""
        oldest = self.height - KEEP_BLOCKS
        forks: dict[bytes, int] = {}
        children: dict[bytes, int] = {}
        for block_hash, side in sorted(self._side.items(), key=lambda item: item[1].height):
            fork = forks[side.parent_hash] if side.parent_hash in forks else self._heights[side.parent_hash]
            forks[block_hash] = fork
            children[side.parent_hash] = children.get(side.parent_hash, 0) + 1
            if fork < oldest:
                del self._side[block_hash]
        ends = [(side.work, block_hash) for block_hash, side in self._side.items() if block_hash not in children]
        heapify(ends)
        while len(self._side) > KEEP_SIDE_HEADERS:
            _, block_hash = heappop(ends)
            parent_hash = self._side.pop(block_hash).parent_hash
            children[parent_hash] -= 1
            if not children[parent_hash] and parent_hash in self._side:
                heappush(ends, (self._side[parent_hash].work, parent_hash))

    # --- walking

    def _side_of(self, block_hash: bytes) -> _Side:
        if (side := self._side.get(block_hash)) is None:
            raise HeaderUnknown("hash", show_hash(block_hash), f"one of {len(self._heights) + len(self._side)} headers")
        return side

    def _down(self, block_hash: bytes) -> Iterator[bytes]:
        """Side blocks from one down to the best chain."""
        while (side := self._side.get(block_hash)) is not None:
            yield block_hash
            block_hash = side.parent_hash

    def _fork_of(self, block_hash: bytes) -> int:
        for side in self._down(block_hash):
            block_hash = self._side[side].parent_hash
        return self._heights[block_hash]

    def _regular_bits(self, block_hash: bytes, start: int) -> int:
        height, bits = self.height_of(block_hash), self.header(block_hash).bits
        while height > start and bits == self.params.easiest_bits:
            height -= 1
            bits = self.header(self.ancestor(block_hash, height)).bits
        return bits

    # --- bytes

    def encode(self) -> bytes:
        """Canonical bytes: checkpoint, best chain, side headers by height and hash."""
        order = sorted((side.height, block_hash) for block_hash, side in self._side.items())
        best = bytes(self._raw[HEADER_BYTES:])
        side = b"".join(self._side[block_hash].raw for _, block_hash in order)
        sizes = [(len(part) // HEADER_BYTES).to_bytes(_COUNT_BYTES, "little") for part in (best, side)]
        return self.checkpoint.encode() + sizes[0] + best + sizes[1] + side

    @classmethod
    def decode(cls, params: BitcoinParams, data: bytes) -> Self:
        """Read and check again all that `encode` wrote.

        Raises:
            ChainMalformed: another encoding of the same chain, or none.
            Invalid: a header or the checkpoint breaks a rule.
        """
        checkpoint, rest = Checkpoint.decode_from(data)
        chain = cls(params, checkpoint)
        best, rest = _take_headers(rest)
        side, rest = _take_headers(rest)
        chain.extend(best, _END_OF_TIME)
        try:
            for raw in split_headers(side):
                chain.extend(raw, _END_OF_TIME)
        except UnknownParentHeader as error:
            raise ChainMalformed("header chain", "a side header has no parent") from error
        if rest or chain.encode() != data:
            raise ChainMalformed("header chain", "is not in its one encoding")
        return chain


def _take_headers(data: bytes) -> tuple[bytes, bytes]:
    end = _COUNT_BYTES + int.from_bytes(data[:_COUNT_BYTES], "little") * HEADER_BYTES
    if len(data) < max(end, _COUNT_BYTES):
        raise ChainMalformed("header chain", f"ends {end - len(data)} bytes early")
    return data[_COUNT_BYTES:end], data[end:]
