"""Where a header chain may start instead of at genesis: one header, and what the rules read of those before it."""

from dataclasses import dataclass
from typing import Final, Self

from bridge.errors import ChainMalformed, CheckpointInvalid
from bridge.headers import HEADER_BYTES, Context, Header
from bridge.params import MEDIAN_BLOCKS, RETARGET_BLOCKS, BitcoinParams
from bridge.work import check_target, compute_work, sha256d, show_hash

_FIXED_BYTES: Final = 4 + HEADER_BYTES + HEADER_BYTES + 32 + 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trusted header; who chooses it answers for it."""

    height: int
    """Its height; a first block of a period on networks with exceptions for late blocks."""
    header: bytes
    """Its 80 bytes."""
    period_first: bytes
    """80 bytes of the first header of its period: the next retarget reads it."""
    work: int
    """Cumulative, this header included."""
    timestamps: tuple[int, ...]
    """Of the ten headers before, oldest first; fewer below height 10."""

    def encode(self) -> bytes:
        """Canonical bytes, integers little-endian."""
        stamps = b"".join(stamp.to_bytes(4, "little") for stamp in self.timestamps)
        count = len(self.timestamps).to_bytes(1, "little")
        return (
            self.height.to_bytes(4, "little")
            + self.header
            + self.period_first
            + self.work.to_bytes(32, "little")
            + count
            + stamps
        )

    @classmethod
    def decode_from(cls, data: bytes) -> tuple[Self, bytes]:
        """A checkpoint and the bytes after it.

        Raises:
            ChainMalformed: too short.
        """
        if len(data) < _FIXED_BYTES or len(data) < _FIXED_BYTES + 4 * data[_FIXED_BYTES - 1]:
            raise ChainMalformed("checkpoint", f"ends after {len(data)} bytes")
        end = _FIXED_BYTES + 4 * data[_FIXED_BYTES - 1]
        stamps = tuple(int.from_bytes(data[at : at + 4], "little") for at in range(_FIXED_BYTES, end, 4))
        header, first = data[4 : 4 + HEADER_BYTES], data[4 + HEADER_BYTES : 4 + 2 * HEADER_BYTES]
        work = int.from_bytes(data[_FIXED_BYTES - 33 : _FIXED_BYTES - 1], "little")
        return cls(int.from_bytes(data[:4], "little"), header, first, work, stamps), data[end:]


def genesis_checkpoint(params: BitcoinParams) -> Checkpoint:
    """The network's first block."""
    work = compute_work(check_target(params, Header.decode(params.genesis).bits))
    return Checkpoint(0, params.genesis, params.genesis, work, ())


def check_checkpoint(params: BitcoinParams, checkpoint: Checkpoint) -> Context:
    """The context for the header after a checkpoint that does not contradict itself.

    Raises:
        CheckpointInvalid: it does, or it is another network's.
        HeaderMalformed, BadTarget: its headers are none.
    """
    header, first = Header.decode(checkpoint.header), Header.decode(checkpoint.period_first)
    block_hash, target = sha256d(checkpoint.header), check_target(params, header.bits)
    check_target(params, first.bits)
    starts_period = checkpoint.height % RETARGET_BLOCKS == 0
    if int.from_bytes(block_hash, "little") > target:
        raise CheckpointInvalid("hash", show_hash(block_hash), f"at most {target:064x}")
    if checkpoint.height == 0 and checkpoint.header != params.genesis:
        raise CheckpointInvalid("genesis", show_hash(block_hash), show_hash(sha256d(params.genesis)))
    if starts_period != (checkpoint.period_first == checkpoint.header):
        raise CheckpointInvalid("first header of the period", show_hash(first.hash), show_hash(block_hash))
    if params.min_difficulty and not starts_period:
        raise CheckpointInvalid("height", checkpoint.height, f"a multiple of {RETARGET_BLOCKS} on {params.name}")
    if not params.min_difficulty and first.bits != header.bits:
        raise CheckpointInvalid("bits of the period", f"{first.bits:#010x}", f"{header.bits:#010x}")
    if len(checkpoint.timestamps) != (count := min(checkpoint.height, MEDIAN_BLOCKS - 1)):
        raise CheckpointInvalid("number of timestamps", len(checkpoint.timestamps), count)
    work = compute_work(target)
    if (checkpoint.work == work) != (checkpoint.height == 0) or not work <= checkpoint.work < 1 << 256:
        raise CheckpointInvalid("work", checkpoint.work, f"{work} at genesis, more above, below 2^256")
    stamps = (*checkpoint.timestamps, header.timestamp)
    return Context(checkpoint.height + 1, header, block_hash, stamps, first, header.bits, checkpoint.work)
